//! `updraft machine api-proxy`

use crate::complete;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use crate::proxy;
use clap::Args;
use rt::Tasks;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Longest wait for requests under way at the end.
const GRACE: Duration = Duration::from_secs(1);

/// Offer the API on a local port, to programs that have no token
///
/// The token is added to requests that have none. Every program of this machine can use the
/// port with what the token permits; web pages in a browser cannot. The URL goes to stdout.
/// Runs until interrupted.
#[derive(Clone, Debug, Args)]
pub struct ApiProxyArgs {
    /// Loopback address and port to listen on; port 0 means a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4281", value_parser = loopback)]
    bind: SocketAddr,
    /// Begin only if the token may read this organization
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Show nothing but the URL
    #[arg(short, long)]
    quiet: bool,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| format!("{text:?} is not of the form 127.0.0.1:4281"))?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => {
            Err("only addresses of loopback, such as 127.0.0.1: others would open the API to \
                      other machines"
                .to_owned())
        }
    }
}

pub(super) async fn run(args: ApiProxyArgs, cx: &mut Context<'_>) -> Result<()> {
    // Without a token there would be nothing to add.
    cx.token()?;
    let client = cx.client()?;
    match &args.org {
        Some(org) => drop(client.org(org).await.context(|| format!("find organization {org}"))?),
        None => drop(client.current_tokens().await.context(|| "ask about the token".into())?),
    }
    let listener = TcpListener::bind(args.bind).await.map_err(|err| {
        CliError::failed(format!("Cannot listen on {}", args.bind))
            .because_of(&err)
            .hint("Give another address with --bind, such as 127.0.0.1:0 for a free port.")
    })?;
    let local = listener.local_addr().context(|| "find the port".into())?;
    let on = |kind| signal(kind).context(|| "listen for signals".to_owned());
    let (mut int, mut term) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    if !args.quiet {
        let base = client.base();
        cx.ui().status(&format!("Proxying to {base} with your token; end it with Ctrl-C"));
    }
    cx.ui().data(&format!("http://{local}"))?;
    let tasks = Tasks::new();
    let end = tokio::select! {
        served = proxy::serve(listener, client, tasks.clone()) => served.map(drop),
        _ = int.recv() => Ok(()),
        _ = term.recv() => Ok(()),
    };
    tasks.shutdown(GRACE).await;
    end.context(|| format!("serve {local}"))
}
