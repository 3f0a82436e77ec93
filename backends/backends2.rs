//! The second test server: `backend2` on 127.0.0.1:3001.

mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    server::run("backend2", "127.0.0.1:3001")
}
