//! What the services say: messages, stack traces and routes.
//!
//! For: the texts of all log records in one place, compiled for a format. Not for: which of them a record gets
//! ([`crate::request`]).

mod routes;
mod texts;

pub(crate) use routes::{Page, RouteId};

use crate::record::Severity;
use crate::rng;
use crate::template::{Escape, Template};
use crate::topology::{Runtime, SERVICES};
use routes::{PAGES, ROUTES};
use texts::{ACCESS_FAILED, ACCESS_OK, JOBS, LEAK, OF_SERVICE, RESTART, stacks};

/// An exception of a language, with its stack trace.
#[derive(Debug)]
pub(crate) struct Exception {
    pub(crate) name: &'static str,
    pub(crate) stack: Template,
}

/// The messages of one service by severity.
#[derive(Debug)]
struct Messages {
    normal: Vec<(Severity, Template)>,
    failed: Vec<Template>,
    exceptions: Vec<Exception>,
}

/// All texts, ready to write.
#[derive(Debug)]
pub(crate) struct Catalog {
    paths: Vec<Template>,
    pages: Vec<Template>,
    services: Vec<Messages>,
    access_ok: Vec<Template>,
    access_failed: Vec<Template>,
    jobs: Vec<(Severity, Template)>,
    leak: Vec<Template>,
    restart: Vec<Template>,
}

impl Catalog {
    pub(crate) fn new(escape: Escape) -> Self {
        let all =
            |sources: &[&str]| -> Vec<Template> { sources.iter().map(|text| Template::new(text, escape)).collect() };
        let leveled = |sources: &[(Severity, &str)]| -> Vec<(Severity, Template)> {
            sources.iter().map(|(severity, text)| (*severity, Template::new(text, escape))).collect()
        };
        let services = SERVICES.iter().zip(&OF_SERVICE).map(|(service, texts)| Messages {
            normal: leveled(texts.normal),
            failed: all(texts.failed),
            exceptions: stacks(service.runtime)
                .iter()
                .map(|(name, stack)| Exception { name, stack: Template::new(stack, escape) })
                .collect(),
        });
        Self {
            paths: ROUTES.iter().map(|route| Template::new(route.path, escape)).collect(),
            pages: PAGES.iter().map(|page| Template::new(page, escape)).collect(),
            services: services.collect(),
            access_ok: all(ACCESS_OK),
            access_failed: all(ACCESS_FAILED),
            jobs: leveled(JOBS),
            leak: all(LEAK),
            restart: all(RESTART),
        }
    }

    pub(crate) fn path(&self, route: RouteId) -> &Template {
        &self.paths[route as usize]
    }

    pub(crate) fn page(&self, page: Page) -> &Template {
        &self.pages[page as usize]
    }

    /// A message of a service whose part of the request went well. Warnings are an eighth as frequent as the others.
    pub(crate) fn normal(&self, service: u8, bits: u64) -> (Severity, &Template) {
        let messages = &self.services[usize::from(service)].normal;
        let (severity, text) = match rng::pick(messages, bits) {
            (Severity::Warn, _) if bits & 7 != 0 => &messages[0],
            message => message,
        };
        (*severity, text)
    }

    /// A message of a service that failed.
    pub(crate) fn failed(&self, service: u8, bits: u64) -> &Template {
        rng::pick(&self.services[usize::from(service)].failed, bits)
    }

    pub(crate) fn exception(&self, service: u8, bits: u64) -> &Exception {
        rng::pick(&self.services[usize::from(service)].exceptions, bits)
    }

    /// The gateway's line about a request.
    pub(crate) fn access(&self, has_failed: bool, bits: u64) -> &Template {
        rng::pick(if has_failed { &self.access_failed } else { &self.access_ok }, bits)
    }

    /// A message outside any request.
    pub(crate) fn job(&self, bits: u64) -> (Severity, &Template) {
        let (severity, text) = rng::pick(&self.jobs, bits);
        (*severity, text)
    }

    /// A message of a service that runs out of memory.
    pub(crate) fn leak(&self, bits: u64) -> &Template {
        rng::pick(&self.leak, bits)
    }

    /// A message of a service that has just restarted.
    pub(crate) fn restart(&self, bits: u64) -> &Template {
        rng::pick(&self.restart, bits)
    }
}

/// Name of a worker thread as a runtime gives it, without its number.
pub(crate) const fn thread_prefix(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Java => "http-nio-8080-exec-",
        Runtime::Python => "ThreadPoolExecutor-0_",
        Runtime::Go => "goroutine-",
        Runtime::Node => "worker-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_templates_and_every_variable_exists() {
        let texts =
            OF_SERVICE.iter().flat_map(|t| t.normal.iter().map(|(_, text)| *text).chain(t.failed.iter().copied()));
        let more = ACCESS_OK.iter().chain(ACCESS_FAILED).chain(LEAK).chain(RESTART).copied();
        let all: Vec<&str> = texts.chain(more).chain(JOBS.iter().map(|(_, text)| *text)).collect();
        assert!(all.len() >= 60, "{} templates", all.len());
        for text in all.into_iter().chain(ROUTES.iter().map(|route| route.path)).chain(PAGES) {
            let compiled = format!("{:?}", Template::new(text, Escape::Json));
            let braces = text.replace("{\"", "").matches('{').count(); // a quote after the brace is text
            assert_eq!(compiled.matches("Variable(").count(), braces, "unknown variable in {text}");
        }
    }
}
