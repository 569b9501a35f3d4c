//! The `sparse` program: hands its arguments to the command line module.

fn main() -> std::process::ExitCode {
    sparse_store::cli::main()
}
