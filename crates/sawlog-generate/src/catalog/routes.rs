//! Routes of the shop.
//!
//! For: path, time and failure of each route, and the services behind it. Latencies are log-normal.

use crate::topology::{
    AUTH, CART, CATALOG, CHECKOUT, EMAIL, INVENTORY, PAYMENT, RECOMMENDATION, SEARCH, SHIPPING, WEB,
};

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// Status when all goes well.
    pub(crate) status: u16,
    /// Services that a request passes after the gateway.
    pub(crate) hops: &'static [u8],
    pub(crate) median_us: f64,
    /// Spread of the latency in powers of two.
    pub(crate) sigma: f64,
    pub(crate) response_bytes: f64,
    /// Share of 4xx answers.
    pub(crate) client_error_ratio: f64,
    /// Share of 5xx answers without an incident.
    pub(crate) error_ratio: f64,
    /// How often programs and unseen visitors call it, compared with the others.
    pub(crate) weight: u32,
}

macro_rules! routes {
    ($($name:ident = $method:literal $path:literal $status:literal $hops:expr,
       $median:literal ms x $sigma:literal, $bytes:literal B, 4xx $client:literal, 5xx $server:literal, weight $weight:literal;)+) => {
        /// Place of a route in [`ROUTES`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum RouteId { $($name),+ }

        /// All routes.
        pub(crate) const ROUTES: &[Route] = &[$(Route {
            method: $method, path: $path, status: $status, hops: &$hops, median_us: $median * 1000.0, sigma: $sigma,
            response_bytes: $bytes, client_error_ratio: $client, error_ratio: $server, weight: $weight,
        }),+];

        impl RouteId {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            pub(crate) const fn route(self) -> &'static Route {
                &ROUTES[self as usize]
            }
        }
    };
}

#[rustfmt::skip] // a table
routes! {
    Home = "GET" "/" 200 [WEB, RECOMMENDATION, CATALOG], 62.0 ms x 0.7, 48_000.0 B, 4xx 0.001, 5xx 0.006, weight 10;
    Search = "GET" "/api/search?q={term_url}" 200 [SEARCH, CATALOG], 85.0 ms x 0.9, 12_000.0 B, 4xx 0.008, 5xx 0.008, weight 12;
    Category = "GET" "/categories/{category}" 200 [WEB, CATALOG], 48.0 ms x 0.7, 36_000.0 B, 4xx 0.01, 5xx 0.006, weight 12;
    Product = "GET" "/products/{product}" 200 [WEB, CATALOG, RECOMMENDATION, INVENTORY], 55.0 ms x 0.8, 41_000.0 B, 4xx 0.02, 5xx 0.007, weight 22;
    CartAdd = "POST" "/api/carts/{cart}/items" 201 [CART, INVENTORY], 24.0 ms x 0.6, 900.0 B, 4xx 0.02, 5xx 0.008, weight 4;
    CartView = "GET" "/api/carts/{cart}" 200 [CART, CATALOG], 18.0 ms x 0.6, 2_400.0 B, 4xx 0.01, 5xx 0.005, weight 5;
    CheckoutStart = "POST" "/api/checkout" 200 [CHECKOUT, CART, SHIPPING], 120.0 ms x 0.7, 3_100.0 B, 4xx 0.03, 5xx 0.01, weight 1;
    Purchase = "POST" "/users/{user}/orders" 201 [CHECKOUT, PAYMENT, INVENTORY, EMAIL], 410.0 ms x 0.8, 1_800.0 B, 4xx 0.04, 5xx 0.012, weight 1;
    OrderView = "GET" "/users/{user}/orders/{order}" 200 [CHECKOUT, SHIPPING], 36.0 ms x 0.6, 5_200.0 B, 4xx 0.01, 5xx 0.006, weight 3;
    Login = "POST" "/api/login" 200 [AUTH], 95.0 ms x 0.5, 700.0 B, 4xx 0.12, 5xx 0.005, weight 3;
    Logout = "POST" "/api/logout" 204 [AUTH], 9.0 ms x 0.4, 0.0 B, 4xx 0.002, 5xx 0.003, weight 1;
    Track = "GET" "/api/shipments/{order}/events" 200 [SHIPPING], 44.0 ms x 0.9, 2_000.0 B, 4xx 0.03, 5xx 0.008, weight 2;
    Recommend = "GET" "/api/recommendations?user={user}" 200 [RECOMMENDATION, CATALOG], 70.0 ms x 0.9, 6_500.0 B, 4xx 0.002, 5xx 0.008, weight 6;
    Health = "GET" "/healthz" 200 [], 0.9 ms x 0.5, 15.0 B, 4xx 0.0, 5xx 0.001, weight 0; // probes only
    Asset = "GET" "/assets/app.{hex}.js" 200 [WEB], 3.2 ms x 0.6, 184_000.0 B, 4xx 0.01, 5xx 0.001, weight 8;
    Profile = "PUT" "/users/{user}/profile" 200 [AUTH], 31.0 ms x 0.6, 1_100.0 B, 4xx 0.05, 5xx 0.006, weight 1;
    CartRemove = "DELETE" "/api/carts/{cart}/items/{product}" 204 [CART], 15.0 ms x 0.5, 0.0 B, 4xx 0.02, 5xx 0.005, weight 2;
    Invoice = "GET" "/api/invoices/{uuid}.pdf" 200 [PAYMENT, EMAIL], 230.0 ms x 0.7, 92_000.0 B, 4xx 0.03, 5xx 0.01, weight 1;
}

/// Pages as users see them, and where a session can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Page {
    Home,
    Search,
    Category,
    Product,
    Cart,
    Checkout,
    Order,
    Account,
}

/// Paths in the order of [`Page`].
pub(crate) const PAGES: [&str; 8] = [
    "/",
    "/search?q={term_url}",
    "/categories/{category}",
    "/products/{product}",
    "/cart/{cart}",
    "/checkout",
    "/users/{user}/orders/{order}",
    "/account",
];
