//! `sparse adapter`.
//!
//! May use: everything below.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::ops::adapter::{self, Request};

use super::Context;
use super::args::{AdapterArgs, AdapterVerb};
use super::commit::{headline, level};
use super::out::{Page, Report, Tint};
use super::session::{Session, pool, signature};
use super::text::{escaped, saving, time_utc};

/// The fields of a manifest of a delta as other tools write them, beside those of a commit.
#[derive(Serialize)]
struct Added {
    version: &'static str,
    delta_type: &'static str,
    base_model_id: String,
    finetune_model_id: String,
    created_at: String,
    num_layers: u64,
    changed_layers: u64,
    total_params: u64,
    changed_params: u64,
    compression_ratio: f64,
    delta_size_mb: f64,
    format: &'static str,
    commit: String,
    branch: String,
    base: String,
    kind: &'static str,
    unchanged: bool,
    files: u64,
    logical_bytes: u64,
    new_bytes: u64,
    seconds: f64,
    adapter: Value,
}

impl Report for Added {
    const SCHEMA: &'static str = "sparse.adapter/1";

    fn human(&self, page: &mut Page) {
        if !headline(
            page,
            "committed",
            &self.commit,
            &self.branch,
            self.unchanged,
        ) {
            return;
        }
        page.line(format_args!(
            "  base    {} (adapter)",
            Tint::Id.on(&self.base[..12])
        ));
        let kind = self.adapter["peft_type"].as_str().unwrap_or_default();
        match self.adapter["r"].as_u64() {
            Some(rank) => page.line(format_args!(
                "  adapter {} of rank {rank}, {} layers",
                escaped(kind),
                self.num_layers
            )),
            None => page.line(format_args!("  adapter {}", escaped(kind))),
        }
        page.line(format_args!(
            "  bytes   {}",
            saving(self.logical_bytes, self.new_bytes)
        ));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

pub(super) fn run(context: &Context, args: &AdapterArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let AdapterVerb::Add {
        base,
        path,
        branch,
        message,
        level: stated_level,
    } = &args.verb;
    let stated = format!("adapter of {base}");
    let signature = signature(context)?;
    let created_at = time_utc(signature.time);
    let request = Request {
        base: session.resolve(base)?,
        path,
        branch,
        message: message.as_deref().unwrap_or(&stated),
        signature,
        level: level(context.level(*stated_level)?),
    };
    let report = adapter::add(
        &session.store,
        &session.rebuilder,
        &pool(context)?,
        &request,
        &context.progress,
    )?;
    let commit = &report.commit;
    context.out.print(&Added {
        version: "1.0",
        delta_type: "adapter",
        base_model_id: request.base.to_string(),
        finetune_model_id: commit.commit.to_string(),
        created_at,
        num_layers: report.layers,
        changed_layers: report.layers,
        total_params: report.params,
        changed_params: report.params,
        compression_ratio: commit.logical_bytes as f64 / commit.new_bytes.max(1) as f64,
        delta_size_mb: commit.new_bytes as f64 / f64::from(1 << 20),
        format: "peft",
        commit: commit.commit.to_string(),
        branch: branch.clone(),
        base: request.base.to_string(),
        kind: "adapter",
        unchanged: commit.unchanged,
        files: commit.files,
        logical_bytes: commit.logical_bytes,
        new_bytes: commit.new_bytes,
        seconds: started.elapsed().as_secs_f64(),
        adapter: report.adapter,
    })
}
