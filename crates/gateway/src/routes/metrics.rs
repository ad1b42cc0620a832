//! `GET /metrics`: counters for Prometheus, without anything about users. Needs the metrics key, or a forwarding key where
//! none is set; on its own listener it needs nothing.

use axum::extract::State;
use constant_time_eq::constant_time_eq;
use http::HeaderMap;
use storage::admin::keys::hash;

use crate::Gateway;
use crate::error::ApiError;
use crate::keys::{Access, Brought};

pub(crate) async fn handler(State(gateway): State<Gateway>, headers: HeaderMap) -> Result<String, ApiError> {
    let own = gateway.config.metrics_key.as_ref().map(|key| hash(key.expose()));
    let allowed = match own {
        Some(own) => {
            Brought::of(&headers)?.secrets().any(|key| constant_time_eq(own.as_bytes(), hash(key).as_bytes()))
        }
        None => gateway.keys.access(&headers).await?.access == Access::Forwarding,
    };
    if allowed {
        Ok(render(&gateway))
    } else {
        Err(ApiError::unauthorized("invalid_api_key", "The metrics need the metrics key."))
    }
}

/// The same on a listener of its own.
pub(crate) async fn open(State(gateway): State<Gateway>) -> String {
    render(&gateway)
}

fn render(gateway: &Gateway) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of a few thousand requests")]
    metrics::gauge!("tracking_requests_under_way").set(gateway.meter.under_way() as f64);
    gateway.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default()
}
