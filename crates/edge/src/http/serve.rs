//! One request of a client, from its head to its answer.

use crate::admission::app::AppShared;
use crate::admission::attempt::RequestAttempt;
use crate::admission::hold::no_app;
use crate::http::body::Body;
use crate::http::code::Code;
use crate::http::failure::Failure;
use crate::http::forward::forward;
use crate::http::headers::{self, ClientValues, Origin};
use crate::listen::connections::Place;
use crate::routing::host::{NoApp, app_of, authority};
use crate::shared::Core;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use std::sync::Arc;

/// What is known of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) values: ClientValues,
    /// Outside ports of services it may mean, the best first.
    pub(crate) ports: Arc<[u16]>,
    pub(crate) place: Arc<Place>,
}

/// Answers a request.
pub(crate) async fn serve(
    core: Arc<Core>,
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Response<Body> {
    let open = client.place.begin_request(request.version() == Version::HTTP_2);
    let shared = &core.shared;
    let request_id = request_id(&core);
    let json = headers::wants_json(request.headers());
    let origin = Origin {
        client: &client.values,
        region: &core.region,
        request_id: &request_id,
        version: request.version(),
    };
    let mut app = None;
    let answer = match route(&core, &request, &mut app) {
        Ok(name) => forward(&core, &client.ports, &origin, &name, request, &open).await,
        Err(failure) => Err(failure),
    };
    let (mut response, pristine) = answer.unwrap_or_else(|failure| {
        let failure = match &app {
            Some(app) => failure.of_app(&app.name),
            None => failure,
        };
        shared.log_failure(app.as_deref(), &failure);
        (failure.response(request_id.to_str().unwrap_or_default(), json), false)
    });
    match &app {
        Some(app) => app.metrics.record_response(response.status().as_u16()),
        None => {
            shared.metrics.unrouted.inc();
        }
    }
    if !pristine {
        headers::to_client(response.headers_mut(), &origin, &core.server);
    }
    response.body_mut().hold_open(open);
    response
}

fn request_id(core: &Core) -> HeaderValue {
    let random = core.rng.wide_bits();
    let id = ulid::Ulid::from_parts(core.shared.clock.now_ms(), random);
    let mut text = [0; ulid::ULID_LEN];
    headers::value(format!("{}-{}", id.array_to_str(&mut text), core.shared.config.region))
}

/// The app a request is for; its shared part goes to `found`.
fn route(
    core: &Core,
    request: &Request<Incoming>,
    found: &mut Option<Arc<AppShared>>,
) -> Result<Arc<str>, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::new(Code::Ur05, "CONNECT is not served"));
    }
    let host = authority(request.uri(), request.headers());
    let name = host.and_then(|host| app_of(host, &core.shared.config.domains));
    let name = name.map_err(|why| match why {
        NoApp::BadHost => Failure::new(Code::Ur03, "the request names no host"),
        NoApp::OtherHost => Failure::new(Code::Ur01, "the host belongs to no app here"),
    })?;
    let Some(entry) = core.table.get(&name) else {
        return Err(no_app(core, &name, &RequestAttempt::new()).of_app(&name));
    };
    let app = entry.load().shared.clone();
    let name = app.name.clone();
    *found = Some(app);
    Ok(name)
}
