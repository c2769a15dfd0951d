//! Sessions of users and the activity events they leave behind.
//!
//! For: the way from an entry page to a purchase, with drop-off, pauses and errors. Not for: who the users are
//! ([`crate::visitor`]) or the logs of their requests ([`crate::request`]).
//! Invariant: the number of open sessions is bounded; at high rates they pause less.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::catalog::{Page, RouteId};
use crate::record::{ActivityRecord, Stamp, Topic};
use crate::request::{Outcome, Plan, Requests};
use crate::rhythm::SECOND;
use crate::rng::Rng;
use crate::shop::Shop;
use crate::template::Values;
use crate::topology::{GATEWAY, WEB};
use crate::visitor::Visitor;
use crate::world::World;

/// Most sessions that are open at a time.
const SESSIONS_MAX: usize = 4096;
/// Steps after which a session ends.
const STEPS_MAX: u8 = 60;
/// Median pause between two steps and its spread in powers of two.
const PAUSE_MEDIAN: f64 = 9.0 * SECOND as f64;
const PAUSE_SIGMA: f64 = 1.3;
/// Share of pauses in which the user does something else for a while.
const LONG_PAUSE_RATIO: f64 = 0.03;
const LONG_PAUSE_MEDIAN: f64 = 400.0 * SECOND as f64;
/// Longest time between a step and its arrival.
const CLIENT_DELAY_MICROS: u32 = 1_500_000;

/// One thing that a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    ViewHome,
    Search,
    ViewCategory,
    ClickProduct,
    ViewProduct,
    AddToCart,
    ViewCart,
    RemoveFromCart,
    StartCheckout,
    Purchase,
    ViewOrder,
    Login,
    Logout,
    Leave,
}

/// What an action is in the event stream and on the wire.
struct Facts {
    event: &'static str,
    route: RouteId,
    topic: Topic,
    page: Page,
    /// Whether it is about something new: another product, another search.
    has_new_subject: bool,
}

impl Action {
    const fn facts(self) -> Facts {
        let (event, route, topic, page, has_new_subject) = match self {
            Self::ViewHome | Self::Leave => ("page_view", RouteId::Home, Topic::Page, Page::Home, true),
            Self::Search => ("search", RouteId::Search, Topic::Search, Page::Search, true),
            Self::ViewCategory => ("page_view", RouteId::Category, Topic::Page, Page::Category, true),
            Self::ClickProduct => ("click", RouteId::Product, Topic::Product, Page::Product, true),
            Self::ViewProduct => ("page_view", RouteId::Product, Topic::Product, Page::Product, true),
            Self::AddToCart => ("add_to_cart", RouteId::CartAdd, Topic::Product, Page::Cart, false),
            Self::ViewCart => ("page_view", RouteId::CartView, Topic::Cart, Page::Cart, false),
            Self::RemoveFromCart => ("click", RouteId::CartRemove, Topic::Cart, Page::Cart, false),
            Self::StartCheckout => ("checkout_started", RouteId::CheckoutStart, Topic::Cart, Page::Checkout, false),
            Self::Purchase => ("purchase", RouteId::Purchase, Topic::Order, Page::Order, true),
            Self::ViewOrder => ("page_view", RouteId::OrderView, Topic::Page, Page::Order, false),
            Self::Login => ("login", RouteId::Login, Topic::Account, Page::Account, false),
            Self::Logout => ("logout", RouteId::Logout, Topic::Account, Page::Account, false),
        };
        Facts { event, route, topic, page, has_new_subject }
    }
}

/// First steps of a session in percent.
const ENTRIES: &[(u32, Action)] =
    &[(40, Action::ViewHome), (20, Action::Search), (28, Action::ViewProduct), (12, Action::ViewCategory)];

/// Next steps from a page in percent.
#[rustfmt::skip] // a table
const fn next_steps(page: Page) -> &'static [(u32, Action)] {
    use Action::{AddToCart, ClickProduct, Leave, Login, Logout, Purchase, RemoveFromCart, Search, StartCheckout, ViewCart, ViewCategory, ViewHome, ViewOrder, ViewProduct};
    match page {
        Page::Home => &[(28, Search), (26, ViewCategory), (22, ClickProduct), (6, Login), (18, Leave)],
        Page::Search => &[(52, ClickProduct), (18, Search), (4, ViewCategory), (26, Leave)],
        Page::Category => &[(58, ClickProduct), (14, ViewCategory), (6, Search), (22, Leave)],
        Page::Product => &[(16, AddToCart), (24, ViewProduct), (14, Search), (14, ViewCategory), (32, Leave)],
        Page::Cart => &[(34, StartCheckout), (14, ViewCart), (26, ClickProduct), (8, RemoveFromCart), (18, Leave)],
        Page::Checkout => &[(66, Purchase), (8, ViewCart), (26, Leave)],
        Page::Order => &[(30, ViewOrder), (12, Logout), (10, ViewHome), (48, Leave)],
        Page::Account => &[(38, Search), (28, ClickProduct), (14, ViewOrder), (20, Leave)],
    }
}

fn draw(choices: &[(u32, Action)], rng: &mut Rng) -> Action {
    let mut place = rng.below(100);
    for &(percent, action) in choices {
        match place.checked_sub(percent) {
            Some(rest) => place = rest,
            None => return action,
        }
    }
    Action::Leave
}

#[derive(Clone, Copy, Debug)]
struct Session {
    visitor: Visitor,
    page: Page,
    subject: u64,
    referrer: Option<&'static str>,
    cart_items: u8,
    is_logged_in: bool,
    errors: u8,
    steps: u8,
}

impl Session {
    fn new(shop: &Shop, rng: &mut Rng) -> Self {
        let referrers = [Some("https://www.google.com/"), Some("https://news.example/deals"), None, None, None];
        Self {
            visitor: shop.users.draw(rng),
            page: Page::Home,
            subject: rng.bits(),
            referrer: *rng.pick(&referrers),
            cart_items: 0,
            is_logged_in: rng.chance(0.35),
            errors: 0,
            steps: 0,
        }
    }

    fn next_action(&self, rng: &mut Rng) -> Action {
        if self.steps == 0 {
            return draw(ENTRIES, rng);
        }
        if self.steps >= STEPS_MAX || rng.chance(0.3 * f64::from(self.errors)) {
            return Action::Leave;
        }
        match draw(next_steps(self.page), rng) {
            Action::Purchase if !self.is_logged_in => Action::Login,
            Action::StartCheckout if self.cart_items == 0 => Action::ClickProduct,
            Action::Login if self.is_logged_in => Action::Search,
            action => action,
        }
    }

    /// What the step changes if it went well.
    fn advance(&mut self, action: Action) {
        let was_at_checkout = self.page == Page::Checkout;
        self.page = action.facts().page;
        match action {
            Action::AddToCart => self.cart_items = self.cart_items.saturating_add(1),
            Action::RemoveFromCart => self.cart_items = self.cart_items.saturating_sub(1),
            Action::Purchase => self.cart_items = 0,
            Action::Login => {
                self.is_logged_in = true;
                if was_at_checkout {
                    self.page = Page::Checkout;
                }
            }
            Action::Logout => self.steps = STEPS_MAX,
            _ => {}
        }
    }
}

/// All open sessions.
#[derive(Debug, Default)]
pub(crate) struct Journeys {
    sessions: Vec<Session>,
    free: Vec<u32>,
    /// When the next step of a session is due, and its place.
    due: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Journeys {
    /// The next activity event that is sent. Its request goes to `requests`.
    pub(crate) fn next<'a>(
        &mut self,
        shop: &'a Shop,
        world: &World,
        now: i64,
        requests: &mut Requests,
        rng: &mut Rng,
    ) -> ActivityRecord<'a> {
        loop {
            let place = self.due_session(now).unwrap_or_else(|| self.open(Session::new(shop, rng)));
            let session = &mut self.sessions[place as usize];
            let action = session.next_action(rng);
            if action == Action::Leave {
                self.free.push(place); // each turn of the loop closes a session, and a new one never leaves at once
                continue;
            }
            let event_time = now - i64::from(rng.below(CLIENT_DELAY_MICROS));
            let (record, plan) = step(session, action, shop, world, event_time, rng);
            requests.push(plan);
            let (median, sigma) =
                if rng.chance(LONG_PAUSE_RATIO) { (LONG_PAUSE_MEDIAN, 0.5) } else { (PAUSE_MEDIAN, PAUSE_SIGMA) };
            let pause = rng.log_normal(median, sigma) as i64;
            self.due.push(Reverse((now.saturating_add(pause), place)));
            return record;
        }
    }

    /// The first event of a session of its own, at a time that may be long past.
    pub(crate) fn single<'a>(shop: &'a Shop, world: &World, rng: &mut Rng) -> ActivityRecord<'a> {
        let mut session = Session::new(shop, rng);
        let action = session.next_action(rng);
        step(&mut session, action, shop, world, world.now, rng).0
    }

    fn due_session(&mut self, now: i64) -> Option<u32> {
        let Reverse((due, _)) = *self.due.peek()?;
        if due > now && self.due.len() < SESSIONS_MAX {
            return None;
        }
        self.due.pop().map(|Reverse((_, place))| place)
    }

    fn open(&mut self, session: Session) -> u32 {
        if let Some(place) = self.free.pop() {
            self.sessions[place as usize] = session;
            return place;
        }
        self.sessions.push(session);
        (self.sessions.len() - 1) as u32
    }
}

fn step<'a>(
    session: &mut Session,
    action: Action,
    shop: &'a Shop,
    world: &World,
    event_time: i64,
    rng: &mut Rng,
) -> (ActivityRecord<'a>, Plan) {
    let facts = action.facts();
    if facts.has_new_subject {
        session.subject = rng.bits();
    }
    let service_count = shop.fleet.service_count();
    let outcome = Outcome::draw(facts.route, world, service_count, rng);
    let has_failed = outcome.has_failed();
    // An action that did not succeed is no purchase or login: only the click is left of it.
    let is_deed = !matches!(facts.event, "page_view" | "search");
    let cart_items = session.cart_items;
    session.steps += 1;
    if has_failed {
        session.errors = session.errors.saturating_add(1);
    } else {
        session.advance(action);
    }
    let values = Values {
        subject: session.subject,
        record: session.subject,
        user: session.visitor.user.unwrap_or(0),
        method: facts.route.route().method,
        path: Some(shop.catalog.page(facts.page)),
        status: outcome.status,
        duration_us: 0,
        upstream: "web",
    };
    let web = if WEB < service_count { WEB } else { GATEWAY };
    let record = ActivityRecord {
        time: Stamp { micros: event_time, wrong_text: None },
        event: if has_failed && is_deed { "click" } else { facts.event },
        topic: facts.topic,
        visitor: session.visitor,
        values,
        referrer: session.referrer.take(),
        cart_items: cart_items.max(session.cart_items),
        error_status: has_failed.then_some(outcome.status),
        insert_id: None,
        host: shop.fleet.host(web, session.visitor.profile.region, false, session.visitor.session),
        version: world.version(web),
    };
    (record, Plan { visitor: session.visitor, route: facts.route, subject: session.subject, outcome })
}
