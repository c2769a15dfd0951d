//! Users and what is known of them.
//!
//! For: popularity of users, and for each user a country, a device and an address that stay the same. Not for: what
//! they do ([`crate::journey`]).

use crate::math;
use crate::rng::{self, Rng, mix, mix2};
use crate::scenario::Scenario;
use crate::text::push_number;

/// A user agent and the kind of device it runs on.
#[derive(Debug)]
pub(crate) struct UserAgent {
    pub(crate) text: &'static str,
    pub(crate) device: &'static str,
}

const fn agent(device: &'static str, text: &'static str) -> UserAgent {
    UserAgent { text, device }
}

/// User agents of people, the frequent ones twice.
#[rustfmt::skip] // a table
const BROWSERS: [UserAgent; 12] = [
    agent("desktop", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"),
    agent("mobile", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36"),
    agent("mobile", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1"),
    agent("desktop", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15"),
    agent("desktop", "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    agent("desktop", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"),
    agent("desktop", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0"),
    agent("mobile", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36"),
    agent("tablet", "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Mobile/15E148 Safari/604.1"),
    agent("mobile", "ShopApp/8.12.1 (iOS 18.6; iPhone16,2) CFNetwork/3826.500.131"),
    agent("mobile", "ShopApp/8.12.0 (Android 15; Pixel 9) okhttp/4.12.0"),
    agent("desktop", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"),
];

/// User agents of programs.
#[rustfmt::skip] // a table
const PROGRAMS: [UserAgent; 6] = [
    agent("bot", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    agent("bot", "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"),
    agent("bot", "kube-probe/1.33"),
    agent("bot", "python-requests/2.32.5"),
    agent("bot", "curl/8.16.0"),
    agent("bot", "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)"),
];

/// Countries with the region that serves them (a place in `REGIONS`) and first octets of addresses there.
const COUNTRIES: [(&str, u8, [u8; 3]); 12] = [
    ("DE", 0, [79, 84, 91]),
    ("DE", 0, [80, 87, 93]),
    ("GB", 0, [81, 86, 82]),
    ("FR", 0, [78, 90, 92]),
    ("NL", 0, [77, 83, 94]),
    ("PL", 0, [31, 37, 89]),
    ("US", 1, [24, 68, 73]),
    ("US", 1, [71, 98, 99]),
    ("CA", 1, [70, 99, 142]),
    ("BR", 1, [177, 179, 189]),
    ("JP", 2, [126, 133, 153]),
    ("SG", 2, [116, 118, 119]),
];

const SEGMENTS: [&str; 5] = ["new", "returning", "returning", "loyal", "business"];

/// Keeps the most active user below a hundredth of the traffic of twenty thousand.
const RANK_OFFSET: f64 = 20.0;

/// A network address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Address {
    V4([u8; 4]),
    /// A global address: 2a02::/16 and 64 more bits.
    V6(u64),
}

/// What stays the same about one visitor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) country: &'static str,
    /// Place in `REGIONS`.
    pub(crate) region: u8,
    pub(crate) segment: &'static str,
    pub(crate) user_agent: &'static UserAgent,
    pub(crate) address: Address,
}

/// Who acts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    /// Number of the user; programs have none.
    pub(crate) user: Option<u32>,
    pub(crate) session: u64,
    pub(crate) profile: Profile,
}

/// All users of a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    seed: u64,
    /// log₂ of the largest rank divided by the smallest, both counted from [`RANK_OFFSET`].
    span_log2: f64,
    count: u32,
}

impl Users {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        Self { seed, span_log2: math::log2(1.0 + f64::from(count) / RANK_OFFSET), count }
    }

    /// The users of a scenario.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        Self::new(scenario.user_seed.unwrap_or(scenario.seed), scenario.users)
    }

    /// Appends a header and a line for each user.
    pub(crate) fn write_csv(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"user_id,user_segment,country\n");
        for user in 1..=self.count {
            let Profile { segment, country, .. } = self.visitor(user, 0).profile;
            out.push(b'u');
            push_number(out, u64::from(user));
            for part in [",", segment, ",", country, "\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
    }

    /// A user for a new session. The logarithm of the rank plus an offset is uniform, which makes the n-th user as
    /// frequent as 1 ÷ (n + offset): the law of Zipf and Mandelbrot with exponent 1.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Visitor {
        let place = RANK_OFFSET * (math::exp2(rng.unit() * self.span_log2) - 1.0);
        self.visitor((place as u32 + 1).min(self.count), rng.bits())
    }

    /// A crawler, a probe or a script.
    pub(crate) fn draw_program(&self, rng: &mut Rng) -> Visitor {
        let kind = mix2(self.seed ^ 0xB07, u64::from(rng.below(40)));
        let mut profile = profile(kind);
        profile.user_agent = rng::pick(&PROGRAMS, kind);
        if profile.user_agent.text.starts_with("kube") {
            profile.address = Address::V4([10, 20 + profile.region * 10, 0, (kind >> 8) as u8]);
        }
        Visitor { user: None, session: mix(kind), profile }
    }

    fn visitor(&self, user: u32, session: u64) -> Visitor {
        Visitor { user: Some(user), session, profile: profile(mix2(self.seed, u64::from(user))) }
    }
}

fn profile(bits: u64) -> Profile {
    let (country, region, octets) = *rng::pick(&COUNTRIES, bits);
    let more = mix(bits);
    let [a, b, c, d, ..] = more.to_le_bytes();
    let address =
        if a < 25 { Address::V6(more) } else { Address::V4([octets[usize::from(a) % 3], b, c, d.clamp(1, 254)]) };
    let choice = mix(more);
    Profile {
        country,
        region,
        segment: rng::pick::<&str>(&SEGMENTS, choice << 32),
        user_agent: rng::pick(&BROWSERS, choice),
        address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_keeps_country_device_and_address() {
        let users = Users::new(7, 100);
        let (one, other) = (users.visitor(5, 1), users.visitor(5, 2));
        assert_eq!(format!("{:?}", one.profile), format!("{:?}", other.profile));
    }

    #[test]
    fn the_table_says_what_the_stream_says() {
        let scenario = Scenario { users: 50, user_seed: Some(3), ..Scenario::demo() };
        let table = String::from_utf8(scenario.users_csv().expect("a scenario")).expect("text");
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!((lines.len(), lines[0]), (51, "user_id,user_segment,country"));
        let mut generator = crate::Generator::new(scenario).expect("a scenario");
        let (mut line, mut found) = (Vec::new(), 0);
        for _ in 0..2_000 {
            line.clear();
            generator.next_into(&mut line);
            let text = String::from_utf8_lossy(&line);
            let part = |name: &str| Some(text.split_once(&format!("\"{name}\":\""))?.1.split_once('"')?.0.to_owned());
            if let (Some(user), Some(country), Some(segment)) = (part("user_id"), part("country"), part("segment")) {
                assert!(lines.contains(&format!("{user},{segment},{country}").as_str()), "{text}");
                found += 1;
            }
        }
        assert!(found > 50, "{found}");
    }

    #[test]
    fn a_tenth_of_the_users_makes_nearly_half_of_the_sessions() {
        let (users, mut rng) = (Users::new(7, 1000), Rng::new(1));
        let mut counts = [0_u32; 1001];
        for _ in 0..200_000 {
            counts[users.draw(&mut rng).user.expect("people have numbers") as usize] += 1;
        }
        let top = |users: usize| f64::from(counts[1..=users].iter().sum::<u32>()) / 200_000.0;
        assert!((0.42..0.49).contains(&top(100)) && top(1) < 0.02, "{} {}", top(1), top(100));
        assert!(counts[1..].iter().filter(|&&count| count > 0).count() > 900);
    }

    #[test]
    fn a_single_user_is_possible() {
        let (users, mut rng) = (Users::new(7, 1), Rng::new(1));
        assert!((0..1000).all(|_| users.draw(&mut rng).user == Some(1)));
    }
}
