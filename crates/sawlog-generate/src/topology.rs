//! The shop that the streams come from: services, regions and hosts.
//!
//! For: the fixed facts of each service and the fleet of hosts that a scenario has. Not for: what the services do
//! ([`crate::catalog`]) or how they are at a moment ([`crate::world`]).

use crate::rng::{self, mix2};

/// Language that a service is written in; it decides about stack traces and thread names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Go,
    Java,
    Node,
    Python,
}

/// Facts of one service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) runtime: Runtime,
    pub(crate) tier: &'static str,
    pub(crate) team: &'static str,
    /// Major and first minor version.
    pub(crate) version: (u16, u16),
    pub(crate) loggers: [&'static str; 2],
    /// Share of a processor that one host uses on average.
    pub(crate) cpu: f64,
    pub(crate) memory_mib: u32,
}

/// Places in [`SERVICES`].
pub(crate) const GATEWAY: u8 = 0;
pub(crate) const WEB: u8 = 1;
pub(crate) const CATALOG: u8 = 2;
pub(crate) const SEARCH: u8 = 3;
pub(crate) const CART: u8 = 4;
pub(crate) const CHECKOUT: u8 = 5;
pub(crate) const PAYMENT: u8 = 6;
pub(crate) const AUTH: u8 = 7;
pub(crate) const RECOMMENDATION: u8 = 8;
pub(crate) const INVENTORY: u8 = 9;
pub(crate) const SHIPPING: u8 = 10;
pub(crate) const EMAIL: u8 = 11;

macro_rules! services {
    ($($name:literal $runtime:ident $tier:literal $team:literal v $major:literal.$minor:literal
       [$first:literal, $second:literal] cpu $cpu:literal mib $memory:literal;)+) => {
        [$(Service {
            name: $name, runtime: Runtime::$runtime, tier: $tier, team: $team, version: ($major, $minor),
            loggers: [$first, $second], cpu: $cpu, memory_mib: $memory,
        }),+]
    };
}

/// All services; a scenario uses the first few or all of them.
#[rustfmt::skip] // a table
pub(crate) const SERVICES: [Service; 12] = services! {
    "gateway" Go "edge" "platform" v 3 . 14 ["http.access", "http.proxy"] cpu 0.34 mib 256;
    "web" Node "edge" "storefront" v 5 . 2 ["ssr.render", "ssr.data"] cpu 0.41 mib 512;
    "catalog" Java "core" "storefront" v 2 . 31 ["shop.catalog.ProductService", "shop.catalog.cache"] cpu 0.38 mib 1536;
    "search" Java "core" "discovery" v 4 . 8 ["shop.search.QueryEngine", "shop.search.index"] cpu 0.55 mib 3072;
    "cart" Go "core" "checkout" v 1 . 22 ["cart.store", "cart.api"] cpu 0.22 mib 384;
    "checkout" Java "core" "checkout" v 1 . 9 ["shop.checkout.CheckoutService", "shop.checkout.saga"] cpu 0.29 mib 1024;
    "payment" Java "core" "payments" v 6 . 3 ["shop.payment.PaymentProcessor", "shop.payment.provider"] cpu 0.25 mib 1024;
    "auth" Go "core" "identity" v 2 . 5 ["auth.session", "auth.token"] cpu 0.19 mib 256;
    "recommendation" Python "core" "discovery" v 0 . 47 ["recommendation.ranker", "recommendation.features"] cpu 0.63 mib 2048;
    "inventory" Go "core" "logistics" v 1 . 17 ["inventory.stock", "inventory.reservation"] cpu 0.21 mib 384;
    "shipping" Node "back" "logistics" v 3 . 0 ["shipping.rates", "shipping.labels"] cpu 0.18 mib 512;
    "email" Python "back" "growth" v 1 . 4 ["email.sender", "email.templates"] cpu 0.12 mib 320;
};

/// Regions that hosts are in.
pub(crate) const REGIONS: [&str; 3] = ["europe-west1", "us-central1", "asia-southeast1"];

/// One host (a pod) of a service.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) service: u8,
    pub(crate) region: u8,
    pub(crate) environment: &'static str,
    pub(crate) name: String,
    pub(crate) address: [u8; 4],
    /// Its constant JSON fields, kept as text because they are in every record: service, environment, region, host.
    pub(crate) json: Vec<u8>,
    /// The fields of its label map, without the braces.
    pub(crate) labels_json: Vec<u8>,
}

/// All hosts of a scenario: for each service its production hosts, then one for staging.
#[derive(Debug)]
pub(crate) struct Fleet {
    hosts: Vec<Host>,
    production_count: u32,
    service_count: u8,
}

impl Fleet {
    /// `replicas_wanted` hosts for each service, rounded to a multiple of the regions between 3 and 60.
    pub(crate) fn new(seed: u64, service_count: u8, replicas_wanted: f64) -> Self {
        let regions = REGIONS.len() as u32;
        let production_count = ((replicas_wanted.clamp(0.0, 60.0) as u32) / regions * regions).max(regions);
        let hosts = (0..service_count)
            .flat_map(|service| (0..=production_count).map(move |replica| (service, replica)))
            .map(|(service, replica)| host(seed, service, replica, replica == production_count))
            .collect();
        Self { hosts, production_count, service_count }
    }

    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) const fn service_count(&self) -> u8 {
        self.service_count
    }

    /// A host of a service in a region, or the one for staging.
    pub(crate) fn host(&self, service: u8, region: u8, is_staging: bool, bits: u64) -> &Host {
        let regions = REGIONS.len() as u32;
        let replica = if is_staging {
            self.production_count
        } else {
            rng::scale(bits, self.production_count / regions) * regions + u32::from(region)
        };
        &self.hosts[(u32::from(service) * (self.production_count + 1) + replica) as usize]
    }
}

fn host(seed: u64, service: u8, replica: u32, is_staging: bool) -> Host {
    let facts = &SERVICES[usize::from(service)];
    let region = (replica % REGIONS.len() as u32) as u8;
    let region_name = REGIONS[usize::from(region)];
    let environment = if is_staging { "staging" } else { "prod" };
    let of_set = mix2(seed ^ 0x5E7, u64::from(service) << 1 | u64::from(is_staging));
    let bits = mix2(of_set, u64::from(replica));
    let name = format!("{}-{}-{}", facts.name, pod_text(of_set, 9), pod_text(bits, 5));
    let zone = char::from(b'b' + (bits % 3) as u8);
    let json =
        format!(r#""service":"{}","environment":"{environment}","region":"{region_name}","host":"{name}""#, facts.name);
    let labels_json = format!(r#""zone":"{zone}","tier":"{}","team":"{}""#, facts.tier, facts.team);
    let address = [10, 20 + region * 10, service * 8 + (replica / 250) as u8, 4 + (replica % 250) as u8];
    Host { service, region, environment, name, address, json: json.into_bytes(), labels_json: labels_json.into_bytes() }
}

/// Letters and digits as Kubernetes uses them in pod names.
fn pod_text(bits: u64, length: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|place| char::from(*rng::pick(ALPHABET, mix2(bits, place as u64)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_by_service_region_and_environment() {
        let fleet = Fleet::new(1, 12, 7.0);
        assert_eq!(fleet.hosts().len(), 12 * 7);
        for bits in [0, u64::MAX, 1 << 63] {
            let host = fleet.host(PAYMENT, 2, false, bits);
            assert_eq!((host.service, host.region, host.environment), (PAYMENT, 2, "prod"));
        }
        assert_eq!(fleet.host(EMAIL, 0, true, 0).environment, "staging");
    }

    #[test]
    fn host_names_differ() {
        let fleet = Fleet::new(1, 12, 60.0);
        let names: std::collections::HashSet<_> = fleet.hosts().iter().map(|host| &host.name).collect();
        assert_eq!(names.len(), fleet.hosts().len());
    }
}
