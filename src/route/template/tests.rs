//! Single templates, their order, and a comparison with `matchit`.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn map(templates: &[&'static str]) -> TemplateMap<&'static str> {
    let mut map = TemplateMap::default();
    for template in templates {
        *map.entry(template).unwrap() = *template;
    }
    map
}

/// All templates that match, in the order in which they are offered.
fn offered(map: &TemplateMap<&'static str>, path: &str) -> Vec<&'static str> {
    let seen = RefCell::new(Vec::new());
    let none: Option<()> = map.find_map(path, &|template| {
        seen.borrow_mut().push(*template);
        None
    });
    assert_eq!(none, None);
    seen.into_inner()
}

#[test]
fn parameters_match_a_part_of_one_segment_that_is_not_empty() {
    for (template, matching, others) in [
        (
            "/users/{id}",
            &["/users/1", "/users/{id}", "/users/é"][..],
            &["/users", "/users/", "/users/1/", "/users/1/x", "users/1"][..],
        ),
        ("/users/{id}/", &["/users/1/"], &["/users/1", "/users//"]),
        ("/{a}/x/{b}", &["/1/x/2", "/x/x/x"], &["/1/y/2", "//x/2"]),
        (
            "/i-{n}.png",
            &["/i-1.png", "/i-.png.png"],
            &["/i-.png", "/i-1.jpg", "/i.png"],
        ),
        ("/{*all}", &["/a", "/a/b", "/a/", "//"], &["/"]),
        (
            "/f/v{*all}",
            &["/f/v1", "/f/v/1"],
            &["/f/v", "/f/x/1", "/f"],
        ),
        ("/{{a}}/{b}", &["/{a}/1"], &["/a/1", "/{{a}}/1"]),
        ("/{x}}y}", &["/1"], &["/"]),
    ] {
        let map = map(&[template]);
        for path in matching {
            assert_eq!(offered(&map, path), [template], "{path}");
        }
        for path in others {
            assert!(offered(&map, path).is_empty(), "{template} and {path}");
        }
    }
}

#[test]
fn all_that_match_are_offered_and_the_first_differing_segment_ranks_them() {
    let map = map(&[
        "/{*all}",
        "/i{*rest}",
        "/{a}/{b}",
        "/{a}/x",
        "/img/{b}",
        "/{a}g/{b}",
        "/i{a}/{b}",
        "/i{a}g/{b}",
        "/im{a}/{b}",
    ]);
    assert_eq!(
        offered(&map, "/img/x"),
        [
            "/img/{b}",
            "/im{a}/{b}",
            "/i{a}g/{b}",
            "/i{a}/{b}",
            "/{a}g/{b}",
            "/{a}/x",
            "/{a}/{b}",
            "/i{*rest}",
            "/{*all}",
        ]
    );
}

#[test]
fn names_of_parameters_make_no_difference() {
    let mut map = map(&["/users/{id}"]);
    assert_eq!(*map.entry("/users/{name}").unwrap(), "/users/{id}");
}

#[test]
fn errors_say_what_is_wrong() {
    for (template, error) in [
        ("users/{id}", TemplateError::NoSlash),
        ("", TemplateError::NoSlash),
        ("/{id", TemplateError::Unbalanced),
        ("/id}", TemplateError::Unbalanced),
        ("/{a{b}", TemplateError::Unbalanced),
        ("/{a}}", TemplateError::Unbalanced),
        ("/{a/b}", TemplateError::Unbalanced),
        ("/{}", TemplateError::Name),
        ("/{*}", TemplateError::Name),
        ("/{a*}", TemplateError::Name),
        ("/{a}{b}", TemplateError::Crowded),
        ("/{a}-{b}", TemplateError::Crowded),
        ("/{*a}/b", TemplateError::RestNotLast),
        ("/{*a}b", TemplateError::RestNotLast),
    ] {
        let mut map = TemplateMap::<()>::default();
        let result = map.entry(template).copied();
        assert_eq!(result, Err(error), "{template}");
    }
}

/// Templates of whole segments, in which `matchit` has no ambiguities but the ones it refuses.
fn matchit_templates() -> impl Strategy<Value = Vec<String>> {
    let segment = select(vec!["a", "b", "{p}", "{{c}}"]);
    let template = vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")));
    vec(template, 1..8)
}

proptest! {
    #[test]
    fn speaks_the_language_of_matchit(templates in matchit_templates(), path in "(/[abd]|/\\{c\\}){1,4}/?") {
        let mut router = matchit::Router::new();
        let mut map = TemplateMap::<Option<String>>::default();
        for template in templates {
            let value = map.entry(&template).unwrap();
            let is_new = router.insert(template.clone(), template.clone()).is_ok();
            prop_assert_eq!(is_new, value.is_none());
            value.get_or_insert(template);
        }
        let theirs = router.at(&path).ok().map(|found| found.value.clone());
        prop_assert_eq!(map.find_map(&path, &|value| value.clone()), theirs);
    }
}
