//! Whatever the settings, a valid scenario gives a stream that keeps its promises.

use proptest::prelude::*;
use sawlog_generate::{
    DELAY_MICROS_MAX, Defect, Format, Generator, Mix, START_MICROS_MAX, START_MICROS_MIN, Scenario, USERS_MAX,
};

prop_compose! {
    fn ratios()(late in 0.0..0.3, duplicate in 0.0..0.3, malformed in 0.0..0.3) -> (f64, f64, f64) {
        (late, duplicate, malformed)
    }
}

fn formats() -> impl Strategy<Value = (Format, Mix)> {
    let mixes =
        (0.0..10.0, 0.0..10.0, 0.001..10.0).prop_map(|(logs, metrics, activity)| Mix { logs, metrics, activity });
    prop_oneof![
        mixes.prop_map(|mix| (Format::Ndjson, mix)),
        prop_oneof![Just(Format::Combined), Just(Format::Syslog5424), Just(Format::Logfmt)]
            .prop_map(|format| (format, Mix::LOGS)),
    ]
}

prop_compose! {
    fn scenarios()(
        seed in any::<u64>(),
        start_micros in START_MICROS_MIN..=START_MICROS_MAX,
        rate_exponent in -2.0..8.0,
        (format, mix) in formats(),
        (late_ratio, duplicate_ratio, malformed_ratio) in ratios(),
        (incidents, rhythm, insert_ids) in any::<(bool, bool, bool)>(),
        users in prop_oneof![1..10_u32, 1..=USERS_MAX],
        services in 1..=12_u8,
    ) -> Scenario {
        let events_per_second = 10_f64.powf(rate_exponent).clamp(0.01, 1e8);
        Scenario {
            seed, user_seed: None, start_micros, events_per_second, format, mix, late_ratio, duplicate_ratio, malformed_ratio,
            incidents, rhythm, users, services, insert_ids,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_valid_scenario_never_panics(scenario in scenarios()) {
        let is_json = scenario.format == Format::Ndjson;
        let mut generator = Generator::new(scenario).expect("the scenario is valid");
        let (mut out, mut before) = (Vec::new(), i64::MIN);
        for sequence in 0..1500 {
            out.clear();
            let meta = generator.next_into(&mut out);
            prop_assert_eq!(meta.sequence, sequence);
            prop_assert!(meta.send_time_micros >= before && meta.event_time_micros <= meta.send_time_micros);
            before = meta.send_time_micros;
            prop_assert!(!out.is_empty() && !out.contains(&b'\n'));
            if meta.defect.is_none() {
                prop_assert!(meta.send_time_micros - meta.event_time_micros <= DELAY_MICROS_MAX);
            }
            if is_json && !matches!(meta.defect, Some(Defect::Malformed(_))) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
            }
        }
    }
}
