//! The texts themselves. Variables in braces are those of [`crate::template`].

use crate::record::Severity::{self, Debug, Info, Warn};
use crate::topology::Runtime;

/// Texts of one service.
pub(super) struct Texts {
    pub(super) normal: &'static [(Severity, &'static str)],
    pub(super) failed: &'static [&'static str],
}

pub(super) const ACCESS_OK: &[&str] = &["{method} {path} {status} in {ms} ms"];
pub(super) const ACCESS_FAILED: &[&str] = &[
    "{method} {path} {status}: upstream {upstream} failed after {ms} ms",
    "{upstream} answered {status} to {method} {path}, no retry left",
];

/// In the order of `topology::SERVICES`.
#[rustfmt::skip] // a table
pub(super) const OF_SERVICE: [Texts; 12] = [
    Texts { normal: &[], failed: &[] }, // gateway: it writes access lines only
    Texts { // web
        normal: &[
            (Info, "rendered {path} in {ms} ms, {n} fragments"), (Debug, "data loader fetched {n} keys in one batch"),
            (Info, "served page from edge cache, age {n} s"), (Warn, "hydration mismatch in component ProductCard, {n} nodes"),
            (Debug, "feature flags evaluated for user {user}: {n} active"),
        ],
        failed: &["render of {path} failed: upstream answered {status}", "TypeError while rendering {path}: cannot read properties of undefined (reading 'price')"],
    },
    Texts { // catalog
        normal: &[
            (Info, "loaded product {product} with {n} variants"), (Debug, "cache hit for key product:{product}"),
            (Info, "listed {n} products of category {category}"), (Debug, "query took {ms} ms: SELECT id, name, price FROM product WHERE id = ?"),
            (Warn, "slow query, {ms} ms: SELECT * FROM product_price WHERE valid_to IS NULL"),
        ],
        failed: &["could not load product {product}: connection pool exhausted (active={n}, waiting={big})", "price of product {product} is missing in currency {currency}"],
    },
    Texts { // search
        normal: &[
            (Info, "query \"{term}\" matched {big} documents in {ms} ms"), (Debug, "rewrote query \"{term}\" with {n} synonyms"),
            (Info, "facets computed over {n} shards"), (Warn, "shard {n} answered late, result for \"{term}\" is partial"),
        ],
        failed: &["query \"{term}\" failed: all shards failed", "index reader is closed, {n} segments lost"],
    },
    Texts { // cart
        normal: &[
            (Info, "added product {product} to cart {cart}, {n} items"), (Debug, "cart {cart} loaded from redis in {ms} ms"),
            (Info, "cart {cart} total is {amount} {currency}"), (Warn, "cart {cart} was changed concurrently, attempt {n}"),
        ],
        failed: &["could not save cart {cart}: redis: connection pool timeout", "cart {cart} not readable: unexpected end of msgpack at byte {big}"],
    },
    Texts { // checkout
        normal: &[
            (Info, "order {order} created for user {user}, total {amount} {currency}"), (Info, "saga step reserve_stock of order {order} done"),
            (Debug, "tax computed for order {order}: {n} %"), (Warn, "address of user {user} could not be verified, continuing"),
        ],
        failed: &["order {order} could not be placed: {upstream} answered {status}", "saga of order {order} rolled back after {n} steps"],
    },
    Texts { // payment
        normal: &[
            (Info, "payment of {amount} {currency} authorized by {provider} for order {order}"), (Info, "captured {amount} {currency} for order {order}, reference {hex}"),
            (Debug, "risk score {n} for user {user} at {ip}"), (Warn, "{provider} asked for strong authentication of order {order}"),
        ],
        failed: &["payment of order {order} failed: {provider} answered gateway_timeout after {ms} ms", "could not verify webhook signature of {provider}, event {uuid}"],
    },
    Texts { // auth
        normal: &[
            (Info, "user {user} signed in from {ip}"), (Debug, "token {hex} refreshed, {n} scopes"),
            (Info, "session started for {email}"), (Warn, "wrong password for {email}, attempt {n}"),
        ],
        failed: &["could not sign token: key {hex} has expired", "session store unavailable: context deadline exceeded"],
    },
    Texts { // recommendation
        normal: &[
            (Info, "ranked {big} candidates for user {user} in {ms} ms"), (Debug, "features of user {user} read, {n} missing"),
            (Info, "model als-v{n} answered with {n} items"), (Warn, "model als-v{n} is stale, using popular items"),
        ],
        failed: &["ranking for user {user} failed: feature store answered {status}", "model not loaded: checksum {hex} differs"],
    },
    Texts { // inventory
        normal: &[
            (Info, "reserved {n} of product {product} in warehouse FRA{n}"), (Debug, "stock of product {product} is {big}"),
            (Info, "reservation {uuid} confirmed"), (Warn, "stock of product {product} is low: {n} left"),
        ],
        failed: &["could not reserve product {product}: deadlock detected, transaction {big} was rolled back", "stock of product {product} would become negative"],
    },
    Texts { // shipping
        normal: &[
            (Info, "label {hex} printed for order {order}"), (Debug, "rates fetched from {n} carriers in {ms} ms"),
            (Info, "order {order} handed to carrier dhl, tracking {hex}"), (Warn, "carrier ups answered slowly, using cached rates"),
        ],
        failed: &["no carrier delivers order {order}: {n} carriers failed", "carrier answered {status}: {\"error\":\"quota exceeded\"}"],
    },
    Texts { // email
        normal: &[
            (Info, "sent order_confirmation for order {order} to {email}"), (Debug, "template order_confirmation rendered in {ms} ms"),
            (Info, "queued {n} messages for campaign {hex}"), (Warn, "message to {email} was deferred: 451 try again later"),
        ],
        failed: &["could not send message to {email}: 550 mailbox unavailable", "smtp connection to {ip} lost during DATA"],
    },
];

/// Messages outside requests.
#[rustfmt::skip] // a table
pub(super) const JOBS: &[(Severity, &str)] = &[
    (Info, "scheduled job cleanup_sessions finished, {big} rows deleted"), (Info, "configuration reloaded, {n} keys changed"),
    (Debug, "heartbeat sent to coordinator {ip}, term {big}"), (Info, "consumer group orders rebalanced, {n} partitions assigned"),
    (Warn, "consumer of topic orders lags by {big} records"), (Info, "garbage collection freed {mib} MiB in {n} ms"),
    (Info, "exchange rates updated from ecb, {n} currencies"), (Warn, "certificate of {upstream} expires in {n} days"),
    (Info, "rate limit budget is {percent} % for client {ip}"), (Info, "snapshot {hex} uploaded, {mib} MiB"), (Debug, "connection pool statistics: active={n} idle={n} waiting=0"),
];

pub(super) const LEAK: &[&str] = &[
    "heap usage is {percent} %, garbage collection took {n}00 ms",
    "memory limit nearly reached: {percent} % used, shedding load",
    "allocation of {mib} MiB delayed, memory pressure is high",
];

pub(super) const RESTART: &[&str] = &[
    "process started after OOMKilled, restart count {n}",
    "listening on 0.0.0.0:8080, started in {n} s",
    "warming up caches, {big} entries to load",
];

/// Exceptions and stack traces of a runtime.
pub(super) const fn stacks(runtime: Runtime) -> &'static [(&'static str, &'static str)] {
    match runtime {
        Runtime::Java => JAVA,
        Runtime::Python => PYTHON,
        Runtime::Go => GO,
        Runtime::Node => NODE,
    }
}

const JAVA: &[(&str, &str)] = &[
    (
        "java.net.SocketTimeoutException",
        "java.net.SocketTimeoutException: Read timed out\n\tat java.base/sun.nio.ch.NioSocketImpl.timedRead(NioSocketImpl.java:278)\n\tat shop.client.HttpClient.execute(HttpClient.java:112)\n\tat shop.api.OrderResource.place(OrderResource.java:{n})\nCaused by: shop.client.UpstreamException: {upstream} did not answer\n\t... 14 more",
    ),
    (
        "java.lang.NullPointerException",
        "java.lang.NullPointerException: Cannot invoke \"Price.amount()\" because \"price\" is null\n\tat shop.model.Basket.total(Basket.java:{n})\n\tat shop.api.BasketResource.get(BasketResource.java:71)\n\tat java.base/java.lang.Thread.run(Thread.java:1583)",
    ),
    (
        "org.postgresql.util.PSQLException",
        "org.postgresql.util.PSQLException: ERROR: deadlock detected\n  Detail: Process {big} waits for ShareLock on transaction {big}; blocked by process {big}.\n\tat org.postgresql.core.v3.QueryExecutorImpl.receiveErrorResponse(QueryExecutorImpl.java:2725)\n\tat com.zaxxer.hikari.pool.HikariProxyPreparedStatement.executeQuery(HikariProxyPreparedStatement.java)",
    ),
];
const PYTHON: &[(&str, &str)] = &[
    (
        "KeyError",
        "Traceback (most recent call last):\n  File \"/srv/app/handlers.py\", line {n}, in handle\n    score = features[\"affinity\"]\nKeyError: 'affinity'",
    ),
    (
        "ConnectionError",
        "Traceback (most recent call last):\n  File \"/srv/app/client.py\", line {big}, in get\n    response = self.session.get(url, timeout=2)\n  File \"/usr/lib/python3.13/site-packages/requests/adapters.py\", line 700, in send\n    raise ConnectionError(e, request=request)\nrequests.exceptions.ConnectionError: {upstream}: connection reset by peer",
    ),
];
const GO: &[(&str, &str)] = &[
    (
        "runtime.Error",
        "panic: runtime error: index out of range [{n}] with length 0\n\ngoroutine {big} [running]:\nmain.(*store).load(0xc00{hex}, {0x0, 0x0})\n\t/src/store/load.go:{n} +0x1b4\nnet/http.HandlerFunc.ServeHTTP(0xc00{hex})\n\t/usr/local/go/src/net/http/server.go:2294 +0x29",
    ),
    (
        "context.DeadlineExceeded",
        "context deadline exceeded: call to {upstream} took longer than 2s\n\tgithub.com/shop/rpc.(*Client).Call /src/rpc/client.go:{n}\n\tgithub.com/shop/api.handle /src/api/handle.go:88",
    ),
];
const NODE: &[(&str, &str)] = &[
    (
        "TypeError",
        "TypeError: Cannot read properties of undefined (reading 'price')\n    at renderCard (/app/dist/components/card.js:{n}:17)\n    at Array.map (<anonymous>)\n    at renderPage (/app/dist/pages/product.js:88:24)\n    at process.processTicksAndRejections (node:internal/process/task_queues:105:5)",
    ),
    (
        "FetchError",
        "FetchError: request to http://{upstream}:8080 failed, reason: socket hang up\n    at ClientRequest.<anonymous> (/app/node_modules/node-fetch/lib/index.js:1501:11)\n    at ClientRequest.emit (node:events:518:28)",
    ),
];
