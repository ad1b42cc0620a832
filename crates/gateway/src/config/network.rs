//! The way to model servers, as the configuration and the environment name it: `[network]`, and what a provider has of its own.

use std::path::PathBuf;

use providers::Network;
use serde::Deserialize;

use super::ConfigProblem;
use super::secrets::Texts;

/// Instead of a proxy: that there is none.
const NONE: &str = "none";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkTable {
    proxy: Option<String>,
    no_proxy: Option<String>,
    ca_file: Option<PathBuf>,
}

/// The way to all servers, and what in the environment can't be used.
pub(super) fn read<F: Fn(&str) -> Option<String>>(
    texts: &Texts<F>,
    table: NetworkTable,
) -> Result<(Network, Vec<String>), ConfigProblem> {
    let except = || texts.variable("NO_PROXY").or_else(|| texts.variable("no_proxy"));
    let (mut network, mut unusable) = Network::from_environment(|name| texts.variable(name));
    if let Some(proxy) = texts.resolve("network.proxy", table.proxy)? {
        unusable.clear();
        network =
            through(network, "network.proxy", &proxy, &table.no_proxy.or_else(except).unwrap_or_default())?;
    }
    if let Some(file) = table.ca_file {
        network = network.with_authorities(file);
    }
    Ok((network, unusable))
}

/// The way to one server that may have a proxy and authorities of its own.
pub(super) fn of_provider<F: Fn(&str) -> Option<String>>(
    texts: &Texts<F>,
    common: &Network,
    name: &str,
    proxy: Option<String>,
    ca_file: Option<PathBuf>,
) -> Result<Network, ConfigProblem> {
    let what = format!("the proxy of provider {name}");
    let mut network = common.clone();
    if let Some(proxy) = texts.resolve(&what, proxy)? {
        network = through(network, &what, &proxy, "")?;
    }
    Ok(match ca_file {
        Some(file) => network.with_authorities(file),
        None => network,
    })
}

fn through(network: Network, what: &str, proxy: &str, except: &str) -> Result<Network, ConfigProblem> {
    if proxy == NONE {
        return Ok(network.direct());
    }
    network
        .through(proxy, except)
        .map_err(|why| ConfigProblem(format!("{what}: {why}; \"{NONE}\" is for none")))
}
