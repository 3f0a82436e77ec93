//! Scripts that run in Redis, and how one is called.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisResult, ServerErrorKind, Value};

/// A script, known to Redis by the hash of its code.
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// A call of the script, on one key.
    pub(super) fn call<'a>(&'a self, key: &'a str, arguments: &'a [u64]) -> Call<'a> {
        Call {
            script: self,
            key,
            arguments,
        }
    }
}

/// A script with its arguments.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    script: &'a Script,
    key: &'a str,
    arguments: &'a [u64],
}

impl Call<'_> {
    /// What the script says. It is sent whole if Redis does not know it, which remembers it then.
    pub(super) async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        asking: bool,
    ) -> RedisResult<Value> {
        let known = self.command("EVALSHA", &self.script.hash);
        match send(connection, &known, asking).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let whole = self.command("EVAL", self.script.code);
                send(connection, &whole, asking).await
            }
            answer => answer,
        }
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(self.key);
        for argument in self.arguments {
            command.arg(argument);
        }
        command
    }
}

/// Sends a command: `asking` for a key that is on its way to this node of a cluster, and not yet its own.
async fn send(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    asking: bool,
) -> RedisResult<Value> {
    let answer = if asking {
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").add_command(command.clone());
        let answers = connection.send_packed_commands(&both, 1, 1).await?;
        answers.into_iter().next().unwrap_or(Value::Nil)
    } else {
        connection.send_packed_command(command).await?
    };
    answer.extract_error()
}
