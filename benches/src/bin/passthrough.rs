//! A plain pass-through on the same HTTP stack, without tracking: what any gateway costs at least.
//! `passthrough http://127.0.0.1:PORT` says on its first line where it listens.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark's program prints, and stops when something is wrong"
)]

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

type Shared = (Client<HttpConnector, Body>, String);

#[tokio::main]
async fn main() {
    let upstream = std::env::args().nth(1).unwrap();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let router = Router::new().route("/v1/chat/completions", post(forward)).with_state((client, upstream));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true))), router)
        .await
        .unwrap();
}

async fn forward(State((client, upstream)): State<Shared>, request: Request<Body>) -> Response {
    let (mut head, body) = request.into_parts();
    head.uri = format!("{upstream}{}", head.uri.path()).parse::<Uri>().unwrap();
    head.headers.remove("host");
    client.request(Request::from_parts(head, body)).await.unwrap().map(Body::new)
}
