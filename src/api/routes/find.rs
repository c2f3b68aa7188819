//! From a path and a method to a route of the table.

use super::{Access, ROUTES, Route};
use crate::wire::http::head::Method;

/// The routes of one path, and the id segment in it, still encoded. The path is taken literally.
#[derive(Clone, Copy)]
pub(in crate::api) struct Found<'p> {
    template: &'static str,
    /// What stands for `{id}` or `{file}`; empty without one.
    pub(in crate::api) id: &'p str,
}

/// What a path with an id begins with, in requests and in the table.
const PROCESS: (&str, &str) = ("/v1/processes/", "/v1/processes/{id}");

/// The page for people, and what its files begin with.
const CONSOLE: (&str, &str) = ("/console", "/console/");

/// Finds the routes of a path.
pub(in crate::api) fn find(path: &str) -> Option<Found<'_>> {
    let rest = path.strip_prefix(PROCESS.0).filter(|rest| !rest.is_empty());
    let of_process = rest.map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())));
    let file = path.strip_prefix(CONSOLE.1);
    let file = file.filter(|file| !file.is_empty() && !file.contains('/'));
    ROUTES.iter().find_map(|route| {
        let template = route.path;
        if template == "/console/{file}" {
            return file.map(|id| Found { template, id });
        }
        let id = match (template.strip_prefix(PROCESS.1), of_process) {
            (None, _) => (path == template).then_some("")?,
            (Some(behind), Some((id, rest))) => (behind == rest && !id.is_empty()).then_some(id)?,
            (Some(_), None) => return None,
        };
        Some(Found { template, id })
    })
}

impl Found<'_> {
    /// Whether it is the page for people.
    pub(in crate::api) fn is_console(self) -> bool {
        self.template == CONSOLE.0 || self.template.starts_with(CONSOLE.1)
    }

    fn routes(self) -> impl Iterator<Item = &'static Route> {
        let template = self.template;
        ROUTES.iter().filter(move |route| route.path == template)
    }

    /// Who may ask.
    pub(in crate::api) fn access(self) -> Access {
        self.routes()
            .next()
            .map_or(Access::Token, |route| route.access)
    }

    /// The route of this method.
    pub(in crate::api) fn of(self, method: Method) -> Option<&'static Route> {
        self.routes().find(|route| route.verb.is(method))
    }

    /// The value of `allow`.
    pub(in crate::api) fn allow(self) -> String {
        let methods: Vec<_> = self.routes().map(|route| route.verb.allow()).collect();
        methods.join(",")
    }
}

/// The name of a route, if there is one of this name.
pub fn name(name: &str) -> Option<&'static str> {
    let mut all = ROUTES.iter().map(|route| route.name);
    all.find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn id_of(path: &str) -> Option<(&'static str, &str)> {
        find(path).map(|found| (found.template, found.id))
    }

    #[test]
    fn paths_are_literal() {
        assert_eq!(
            id_of("/v1/processes/config"),
            Some(("/v1/processes/config", ""))
        );
        for (path, template, id) in [
            (
                "/v1/processes/config/logs",
                "/v1/processes/{id}/logs",
                "config",
            ),
            ("/v1/processes/a%2Fb", "/v1/processes/{id}", "a%2Fb"),
            (
                "/v1/processes/p/terminal/ws",
                "/v1/processes/{id}/terminal/ws",
                "p",
            ),
        ] {
            assert_eq!(id_of(path), Some((template, id)), "{path}");
        }
        for path in [
            "",
            "//",
            "/v1",
            "/v1/health/",
            "/V1/health",
            "/v1/processes/",
            "/v1/processes//logs",
            "/v1/processes/p/",
            "/v1/processes/p/logs/",
            "/v1//processes",
            "/v1/processes/p//logs",
            "/v1/./health",
            "/v1/processes/p/terminal",
            "/v1/processes/p/q/logs",
            "/v1/processes/logs/",
            "/console/a/b",
            "/console/app.js/",
        ] {
            assert_eq!(id_of(path), None, "{path}");
        }
    }

    #[test]
    fn allow_has_the_order_of_the_table() {
        for (path, allow) in [
            ("/", "GET,HEAD"),
            ("/v1/processes", "GET,HEAD,POST"),
            ("/v1/processes/config", "GET,HEAD,POST"),
            ("/v1/processes/run", "POST"),
            ("/v1/processes/x", "GET,HEAD,DELETE"),
            ("/v1/processes/x/stdin", "POST,PUT"),
            ("/v1/processes/x/terminal/ws", "GET,HEAD"),
        ] {
            assert_eq!(
                find(path).map(Found::allow).as_deref(),
                Some(allow),
                "{path}"
            );
        }
    }

    #[test]
    fn a_name_and_a_pair_of_method_and_path_mean_one_route_and_its_paths_agree_on_access() {
        let mut seen = HashSet::new();
        for route in ROUTES {
            assert!(seen.insert(route.name), "{route:?}");
            assert!(seen.insert(&*format!("{} {}", route.verb.allow(), route.path).leak()));
            let same_path = ROUTES.iter().filter(|other| other.path == route.path);
            assert!(
                same_path
                    .into_iter()
                    .all(|other| other.access == route.access)
            );
            // Each path is found as what it is.
            let path = route.path.replace("{id}", "proc_1");
            let path = path.replace("{file}", "app.js");
            assert_eq!(find(&path).map(|found| found.template), Some(route.path));
            let is_item = route.path.starts_with(PROCESS.1);
            assert_eq!(is_item, route.path.contains("{id}"), "{route:?}");
        }
    }
}
