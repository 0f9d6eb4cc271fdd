//! The measuring lab; everything is in [`genvm_transport::lab`].

fn main() -> std::process::ExitCode {
    genvm_transport::lab::cli::main()
}
