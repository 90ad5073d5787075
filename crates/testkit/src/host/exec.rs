//! `Exec` of the host in memory. It knows `echo`, `cat`, `exit`, `flood` and,
//! with a terminal, its size; the same as the fake guest where both know it.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{
    CallContext, Exec, ExecError, ExecInput, ExecOutput, ExecSession, ExecStart, HostError,
};
use model::id::MachineId;
use model::life::State;
use tokio::sync::mpsc;

#[async_trait]
impl Exec for FakeHost {
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        self.enter_call("exec", &context).await?;
        if self.owned(id, context.epoch)?.state != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        let (input, commands) = mpsc::channel(4);
        let (answers, output) = mpsc::channel(4);
        // Ends when the session is dropped.
        rt::Tasks::new().spawn(run(exec, commands, answers));
        Ok(ExecSession { input, output })
    }
}

async fn run(
    exec: ExecStart,
    mut input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
) {
    let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let send = async |text: Vec<u8>| output.send(ExecOutput::Stdout(text)).await.is_ok();
    let code = match words[..] {
        ["echo", ref rest @ ..] => {
            send(format!("{}\n", rest.join(" ")).into_bytes()).await;
            0
        }
        ["cat"] => loop {
            match input.recv().await {
                Some(ExecInput::Data(data)) if data.is_empty() => break 0,
                Some(ExecInput::Data(data)) => drop(send(data).await),
                Some(ExecInput::Resize(size)) => {
                    send(format!("{}x{}", size.rows, size.cols).into_bytes()).await;
                }
                Some(ExecInput::Signal(signal)) => break 128 + signal,
                None => return,
            }
        },
        ["flood"] => {
            for _ in 0..40 {
                send(vec![b'x'; 32 * 1024]).await;
            }
            drop(output.send(ExecOutput::Stderr(b"wet".to_vec())).await);
            0
        }
        // Does not end by itself.
        ["sleep"] => loop {
            match input.recv().await {
                Some(ExecInput::Signal(signal)) => break 128 + signal,
                Some(_) => {}
                None => return,
            }
        },
        ["exit", code] => code.parse().unwrap_or(2),
        _ => {
            let error = ExecError::NotFound(format!("{}: not found", words.join(" ")));
            drop(output.send(ExecOutput::Failed(error)).await);
            return;
        }
    };
    drop(output.send(ExecOutput::Exited { code, signal: 0 }).await);
}
