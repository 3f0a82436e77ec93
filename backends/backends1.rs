//! The first test server: `backend1` on 127.0.0.1:3000.

mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    server::run("backend1", "127.0.0.1:3000")
}
