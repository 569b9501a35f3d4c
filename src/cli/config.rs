//! `sparse config`.
//!
//! May use: `error`. The files and their order are `settings`' affair.

use serde::Serialize;

use crate::error::{Error, Kind, Result};

use super::args::{ConfigArgs, ConfigVerb};
use super::out::{Page, Report, Tint};
use super::settings::{self, Key, Origin, Setting};
use super::text::escaped;
use super::{Context, errors};

#[derive(Serialize)]
struct Settings {
    settings: Vec<Line>,
    #[serde(skip)]
    show_origin: bool,
}

#[derive(Serialize)]
struct Line {
    key: String,
    value: String,
    origin: String,
}

impl From<Setting> for Line {
    fn from(setting: Setting) -> Self {
        Self {
            key: setting.name,
            value: setting.value,
            origin: setting.origin.to_string(),
        }
    }
}

impl Report for Settings {
    const SCHEMA: &'static str = "sparse.config/1";

    fn human(&self, page: &mut Page) {
        for line in &self.settings {
            let setting = format!(
                "{} = {}",
                Tint::Name.on(escaped(&line.key)),
                escaped(&line.value)
            );
            if self.show_origin {
                let origin = escaped(&line.origin).to_string();
                page.line(format_args!(
                    "{setting}  {}",
                    Tint::Dim.on(format_args!("({origin})"))
                ));
            } else {
                page.line(setting);
            }
        }
    }

    fn quiet(&self, page: &mut Page) {
        for line in &self.settings {
            page.line(escaped(&line.key));
        }
    }
}

/// One setting: only its value, which is what scripts want.
#[derive(Serialize)]
struct One(Line);

impl Report for One {
    const SCHEMA: &'static str = "sparse.setting/1";

    fn human(&self, page: &mut Page) {
        page.line(escaped(&self.0.value));
    }

    fn quiet(&self, page: &mut Page) {
        self.human(page);
    }
}

/// A setting that was changed: silence for people, who typed it.
#[derive(Serialize)]
struct Changed(Line);

impl Report for Changed {
    const SCHEMA: &'static str = One::SCHEMA;

    fn human(&self, _: &mut Page) {}

    fn quiet(&self, _: &mut Page) {}
}

pub(super) fn run(context: &Context, args: &ConfigArgs) -> Result<()> {
    match &args.verb {
        ConfigVerb::List { show_origin } => {
            let settings = context.config.list()?;
            context.out.print(&Settings {
                settings: settings.into_iter().map(Into::into).collect(),
                show_origin: *show_origin,
            })
        }
        ConfigVerb::Get { key } => {
            let setting = match key.strip_prefix("remote.") {
                Some(_) => {
                    let remotes = context.config.remotes().into_iter();
                    let remotes: Vec<Setting> = remotes.map(|(_, setting)| setting).collect();
                    let found = remotes.iter().find(|setting| setting.name == *key).cloned();
                    Some(found.ok_or_else(|| {
                        let names = remotes.iter().map(|setting| setting.name.as_str());
                        errors::no_such("setting", key, names)
                    })?)
                }
                None => context.config.setting(Key::of(key)?)?,
            };
            let setting =
                setting.ok_or_else(|| Error::new(Kind::NotFound, format!("'{key}' is not set")))?;
            context.out.print(&One(setting.into()))
        }
        ConfigVerb::Set { key, value, user } => {
            let key = Key::of(key)?;
            let file = if *user {
                context
                    .environment
                    .user_config()
                    .ok_or_else(|| Error::not_found("there is no home folder").hint("set HOME"))?
            } else {
                let place = context.place();
                let place = place.map_err(|error| error.hint("for all stores: --user"))?;
                settings::store_file(&place.store)
            };
            settings::set(&file, !user, key, value)?;
            context.out.print(&Changed(Line {
                key: key.name().into(),
                value: value.clone(),
                origin: Origin::File(file).to_string(),
            }))
        }
    }
}
