//! `sparse svd`.
//!
//! May use: everything below.

use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, IoContext, Kind, Result};
use crate::ops::svd::{self, Keep, Kept, Request};

use super::Context;
use super::args::SvdArgs;
use super::commit::{headline, level};
use super::out::{Page, Report, Tint};
use super::session::{Session, pool, signature};
use super::text::{duration, escaped, saving, size, time_utc};

/// The rank where nothing is stated.
const RANK: usize = 16;

/// The fields of a manifest of a delta as other tools write them, beside those of a commit.
#[derive(Serialize)]
struct Cut {
    version: &'static str,
    delta_type: &'static str,
    base_model_id: String,
    finetune_model_id: String,
    created_at: String,
    rank: usize,
    num_layers: usize,
    total_params: u64,
    original_size_bytes: u64,
    compressed_size_bytes: u64,
    compression_ratio: f64,
    avg_reconstruction_error: f64,
    max_reconstruction_error: f64,
    relative_error: f64,
    commit: String,
    branch: String,
    base: String,
    kind: &'static str,
    unchanged: bool,
    logical_bytes: u64,
    new_bytes: u64,
    factor_bytes: u64,
    seconds: f64,
    tensors: Vec<Tensor>,
    #[serde(skip)]
    verbose: bool,
}

#[derive(Serialize)]
struct Tensor {
    file: String,
    name: String,
    rank: usize,
    factor_bytes: u64,
    mean_error: f64,
    max_error: f64,
    relative_error: f64,
    frobenius_error: f64,
}

impl Report for Cut {
    const SCHEMA: &'static str = "sparse.svd/1";

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
            "  base    {} (svd)",
            Tint::Id.on(&self.base[..12])
        ));
        page.line(format_args!(
            "  ranks   {} in {} tensors; factors take {}",
            ranks(&self.tensors),
            self.tensors.len(),
            size(self.factor_bytes)
        ));
        page.line(format_args!(
            "  error   {:.1} % of the change is left out (relative Frobenius norm)",
            100.0 * self.relative_error
        ));
        page.line(format_args!(
            "  bytes   {} in {}",
            saving(self.logical_bytes, self.new_bytes),
            duration(self.seconds.ceil() as u64)
        ));
        for tensor in self.tensors.iter().filter(|_| self.verbose) {
            page.line(format_args!(
                "  {:>4}  {:>9}  {:>5.1} %  {}",
                tensor.rank,
                size(tensor.factor_bytes),
                100.0 * tensor.frobenius_error,
                escaped(&tensor.name)
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

/// `16`, or `3 to 40`.
fn ranks(tensors: &[Tensor]) -> String {
    let ranks = || tensors.iter().map(|tensor| tensor.rank);
    match (ranks().min(), ranks().max()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (_, most) => most.unwrap_or(0).to_string(),
    }
}

pub(super) fn run(context: &Context, args: &SvdArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let keep = match (args.rank, args.energy, args.budget) {
        (_, Some(share), _) => Keep::Energy(share.0),
        (_, _, Some(bytes)) => Keep::Budget(bytes.0),
        (rank, None, None) => Keep::Rank(rank.map_or(RANK, usize::from)),
    };
    let temporary = std::env::temp_dir();
    let scratch = tempfile::Builder::new()
        .prefix("sparse-svd-")
        .tempdir()
        .at("make a folder in", &temporary)?;
    let stated = format!("svd of {} on {}", args.tuned, args.base);
    let signature = signature(context)?;
    let created_at = time_utc(signature.time);
    let request = Request {
        base: session.resolve(&args.base)?,
        tuned: session.resolve(&args.tuned)?,
        keep,
        branch: &args.branch,
        message: args.message.as_deref().unwrap_or(&stated),
        signature,
        level: level(context.level(args.level)?),
        scratch: scratch.path(),
    };
    let done = svd::svd(
        &session.store,
        &session.rebuilder,
        &pool(context)?,
        &request,
        &context.progress,
    );
    let report = done.map_err(|error| match error.kind() {
        Kind::Full => in_scratch(error, &temporary),
        _ => error,
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let cut = Cut::of(
        &report,
        &request,
        created_at,
        seconds,
        context.globals.verbose > 0,
    );
    context.out.print(&cut)
}

fn in_scratch(error: Error, temporary: &std::path::Path) -> Error {
    error.hint(format!(
        "the store needs room for the factors, and '{}' for the whole model on the way: TMPDIR \
         names another place",
        temporary.display()
    ))
}

impl Cut {
    fn of(
        report: &svd::Report,
        request: &Request<'_>,
        created_at: String,
        seconds: f64,
        verbose: bool,
    ) -> Self {
        let commit = &report.commit;
        let (mean, largest) = report.reconstruction_errors();
        Self {
            version: "1.0",
            delta_type: "svd_delta",
            base_model_id: request.base.to_string(),
            finetune_model_id: request.tuned.to_string(),
            created_at,
            rank: report
                .tensors
                .iter()
                .map(|kept| kept.rank)
                .max()
                .unwrap_or(0),
            num_layers: report.tensors.len(),
            total_params: report.total_params,
            original_size_bytes: report.original_bytes,
            compressed_size_bytes: commit.new_bytes,
            compression_ratio: report.original_bytes as f64 / commit.new_bytes.max(1) as f64,
            avg_reconstruction_error: mean,
            max_reconstruction_error: largest,
            relative_error: report.frobenius_error(),
            commit: commit.commit.to_string(),
            branch: request.branch.to_owned(),
            base: request.base.to_string(),
            kind: "svd",
            unchanged: commit.unchanged,
            logical_bytes: commit.logical_bytes,
            new_bytes: commit.new_bytes,
            factor_bytes: report.factor_bytes(),
            seconds,
            tensors: report.tensors.iter().map(Tensor::of).collect(),
            verbose,
        }
    }
}

impl Tensor {
    fn of(kept: &Kept) -> Self {
        Self {
            file: kept.file.clone(),
            name: kept.name.clone(),
            rank: kept.rank,
            factor_bytes: kept.factor_bytes,
            mean_error: kept.mean_error,
            max_error: kept.max_error,
            relative_error: kept.relative_error,
            frobenius_error: kept.frobenius_error(),
        }
    }
}
