//! What is seen only beside the other services: clocks and regions.

use super::finding::{About, Finding};

/// From here on records are taken for late or from the future, and tokens may be refused.
const SKEW_SECONDS_MAX: u64 = 30;

/// What a check saw beside its findings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// By how many seconds the service's clock is ahead.
    pub(super) ahead_seconds: Option<i64>,
    /// What is where: a resource and its region, multi-region or zone.
    pub(super) places: Vec<(String, String)>,
}

/// Findings of all that was seen.
pub(super) fn check(seen: &[Seen]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let about = About::new("this machine", "clock");
    if let Some(ahead) = seen.iter().filter_map(|one| one.ahead_seconds).max_by_key(|ahead| ahead.unsigned_abs()) {
        let detail = match ahead {
            0 => "the services have the same time".to_owned(),
            1.. => format!("it is {ahead} s behind the services"),
            _ => format!("it is {} s ahead of the services", ahead.unsigned_abs()),
        };
        findings.push(match ahead.unsigned_abs() {
            ..=SKEW_SECONDS_MAX => about.ok("skew", detail),
            _ => about.lacking("skew", detail, "set it by NTP: tokens are refused, and times of receipt are wrong"),
        });
    }
    let places: Vec<&(String, String)> = seen.iter().flat_map(|one| &one.places).collect();
    if let Some((first, place)) = places.first() {
        let about = About::new("this configuration", "regions");
        let far: Vec<String> = places
            .iter()
            .filter(|other| !is_near(place, &other.1))
            .map(|(what, at)| format!("{what} in {at}"))
            .collect();
        findings.push(match far.is_empty() {
            true => about.ok("one region", format!("all is in or around {place}")),
            false => about.warning(
                "one region",
                format!("{first} is in {place}, and {}", far.join(", ")),
                "traffic between regions costs, and takes longer: put all of them into one",
            ),
        });
    }
    findings
}

/// Whether two places are the same region, or one is within the other.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (region(one), region(other));
    let area = |place: &str| match place {
        "US" | "NAM4" => Some("US-"),
        "EU" | "EUR4" | "EUR5" | "EUR7" | "EUR8" => Some("EUROPE-"),
        "ASIA" | "ASIA1" => Some("ASIA-"),
        _ => None,
    };
    let has = |outer: &str, inner: &str| {
        area(outer).is_some_and(|prefix| inner.starts_with(prefix) || area(inner) == Some(prefix))
    };
    one == other || has(&one, &other) || has(&other, &one)
}

/// The region of a place in capitals: a zone has a letter more (`europe-west1-b`).
fn region(place: &str) -> String {
    let place = place.to_ascii_uppercase();
    match place.rsplit_once('-') {
        Some((region, zone)) if zone.len() == 1 && region.contains('-') => region.to_owned(),
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn places_are_near_if_one_has_the_other() {
        for (one, other) in
            [("EU", "europe-west1-b"), ("us-central1", "US-CENTRAL1"), ("US", "nam4"), ("asia1", "ASIA")]
        {
            assert!(is_near(one, other), "{one} {other}");
        }
        for (one, other) in [("EU", "US"), ("europe-west1", "europe-west4"), ("us-east1", "US-EAST4"), ("ASIA", "eu")] {
            assert!(!is_near(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_worst_clock_and_the_far_places_are_told() {
        let place = |what: &str, at: &str| (what.to_owned(), at.to_owned());
        let seen = [
            Seen { ahead_seconds: Some(2), places: vec![place("the bucket", "EU")] },
            Seen { ahead_seconds: Some(-90), places: vec![place("the dataset", "US")] },
        ];
        let findings = check(&seen);
        assert_eq!(
            (findings[0].state, findings[0].detail.as_str()),
            (State::Lacking, "it is 90 s ahead of the services")
        );
        assert_eq!(
            (findings[1].state, findings[1].detail.as_str()),
            (State::Warning, "the bucket is in EU, and the dataset in US")
        );
        assert_eq!(check(&[Seen::default()]), []);
    }
}
