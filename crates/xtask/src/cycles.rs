//! Files of a crate do not import each other in circles.
//!
//! An edge goes from a file to each file whose items it names in a `use` or in a
//! path that begins with `crate`, `super` or `self`. A name that a module only
//! passes on (also a private `use`, which its children see) leads to where it comes
//! from. A module file may use its
//! own children, also if they use it, since its purpose is to put them together.

use crate::files::{is_test, sources};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, UseTree};

/// Crates that are still being put in order. Only ever shorter.
const ALLOWED: &[&str] = &[];

/// A module by its path below the crate.
type Module = Vec<String>;

/// The imports of one file.
#[derive(Default)]
struct File {
    /// Paths that it names, from the root of the crate.
    names: Vec<Vec<String>>,
    /// Its re-exports: name here, path from the root of the crate.
    exports: BTreeMap<String, Vec<String>>,
}

/// Collects paths; tests inside of files do not count.
struct Collector<'a> {
    module: &'a Module,
    file: File,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let list = attribute.path().is_ident("cfg").then(|| attribute.meta.require_list().ok());
        list.flatten().is_some_and(|list| list.tokens.to_string() == "test")
    })
}

impl Collector<'_> {
    /// From the root of the crate, if it is within it.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let mut rest = path;
        while let [first, more @ ..] = rest {
            match first.as_str() {
                "self" => {}
                "super" => drop(base.pop()),
                _ => break,
            }
            rest = more;
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        match tree {
            UseTree::Path(path) => {
                let before = [before, &[path.ident.to_string()]].concat();
                self.tree(&path.tree, &before);
            }
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.tree(item, before));
            }
            UseTree::Glob(_) => self.name(before.to_vec(), None),
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                let path = match name.as_str() {
                    "self" => before.to_vec(),
                    _ => [before, std::slice::from_ref(&name)].concat(),
                };
                self.name(path, Some(name));
            }
            UseTree::Rename(rename) => {
                let path = [before, &[rename.ident.to_string()]].concat();
                self.name(path, Some(rename.rename.to_string()));
            }
        }
    }

    /// Notes a path. In a module file a path may also begin with a child's name.
    fn name(&mut self, path: Vec<String>, known_as: Option<String>) {
        let child = || Some([self.module.as_slice(), &path].concat());
        let Some(full) = self.absolute(&path).or_else(child) else { return };
        if let Some(name) = known_as {
            self.file.exports.insert(name, full.clone());
        }
        self.file.names.push(full);
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.tree(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        if let Some(full) = self.absolute(&words) {
            self.file.names.push(full);
        }
        visit::visit_path(self, path);
    }
}

/// The files of a crate by module.
struct Crate(BTreeMap<Module, File>);

impl Crate {
    fn read(src: &Path) -> Self {
        let mut found = Vec::new();
        sources(src, &mut found);
        let files = found.into_iter().filter(|path| !is_test(path)).map(|path| {
            let module = module_of(src, &path);
            let text = std::fs::read_to_string(&path).expect("a source can be read");
            let parsed = syn::parse_file(&text).expect("a source parses");
            let mut collector = Collector { module: &module, file: File::default() };
            collector.visit_file(&parsed);
            let file = collector.file;
            (module, file)
        });
        Self(files.collect())
    }

    /// The file that a path leads to, through what others pass on.
    fn file_of(&self, path: &[String], depth: usize) -> Module {
        let mut at = Module::new();
        for (index, word) in path.iter().enumerate() {
            let next = [at.as_slice(), std::slice::from_ref(word)].concat();
            if self.0.contains_key(&next) {
                at = next;
                continue;
            }
            let export = self.0.get(&at).and_then(|file| file.exports.get(word));
            return match export {
                Some(export) if depth > 0 => {
                    self.file_of(&[export, &path[index + 1..]].concat(), depth - 1)
                }
                _ => at,
            };
        }
        at
    }

    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of_file = |(from, file): (&'_ Module, &File)| -> BTreeSet<Module> {
            let targets = file.names.iter().map(|path| self.file_of(path, 8));
            // Its own children, and itself.
            targets.filter(|to| self.0.contains_key(to) && !to.starts_with(from)).collect()
        };
        self.0.iter().map(|(module, file)| (module, of_file((module, file)))).collect()
    }

    /// Groups of files that reach each other.
    fn cycles(&self) -> Vec<Vec<String>> {
        let edges = self.edges();
        let reach = |from: &Module| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&Module> = edges[from].iter().collect();
            while let Some(module) = next.pop() {
                if seen.insert(module.clone()) {
                    next.extend(&edges[module]);
                }
            }
            seen
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> =
            edges.keys().map(|module| (*module, reach(module))).collect();
        let circle = |module: &Module| -> BTreeSet<&Module> {
            let both = reached[module].iter().filter(|other| reached[*other].contains(module));
            both.collect()
        };
        let circles: BTreeSet<_> = reached.keys().map(|module| circle(module)).collect();
        let circles = circles.into_iter().filter(|circle| !circle.is_empty());
        circles.map(|circle| circle.iter().map(|module| shown(module)).collect()).collect()
    }
}

fn shown(module: &Module) -> String {
    if module.is_empty() { "(root)".to_owned() } else { module.join("::") }
}

fn module_of(src: &Path, path: &Path) -> Module {
    let below = path.strip_prefix(src).expect("a source is below its crate").with_extension("");
    let mut module: Module =
        below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let root = |name: &String| matches!(name.as_str(), "mod" | "lib" | "main");
    if module.last().is_some_and(root) {
        module.pop();
    }
    module
}

fn crates() -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(crate::root().join("crates")).expect("crates/ is there");
    let crates = entries.map(|entry| entry.expect("an entry can be read"));
    let mut crates: Vec<_> = crates
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().join("src")))
        .filter(|(_, src)| src.is_dir())
        .collect();
    crates.sort();
    crates
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let mut found = Vec::new();
    let mut solved: BTreeSet<&str> = ALLOWED.iter().copied().collect();
    for (name, src) in crates() {
        let cycles = Crate::read(&src).cycles();
        if cycles.is_empty() {
            continue;
        }
        if !solved.remove(name.as_str()) {
            found.push(format!("{name}: {cycles:?}"));
        }
    }
    assert!(found.is_empty(), "files that import each other in circles: {found:#?}");
    assert!(solved.is_empty(), "take these off the list, they have no circles: {solved:?}");
}

#[test]
fn circles_are_found_through_what_modules_pass_on() {
    let dir = tempfile::tempdir().expect("make a directory");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("it has a parent")).expect("make directory");
        std::fs::write(path, text).expect("write a file");
    };
    write("lib.rs", "mod a; mod b; mod c; pub use a::A; use c::C;");
    write("a.rs", "use crate::b; pub struct A; fn f() { b::g() }");
    write("b/mod.rs", "mod inner; pub(crate) use inner::B; pub fn g() {}");
    // By way of the root, which only passes A on.
    write("b/inner.rs", "use crate::{A}; pub struct B(A);");
    write("c.rs", "pub struct C; fn f(_: crate::b::B) {} #[cfg(test)] mod t { use crate::a::A; }");
    assert!(Crate::read(dir.path()).cycles().is_empty());
    write("a.rs", "fn f() { let _ = crate::b::B::new(); } pub struct A;");
    assert_eq!(Crate::read(dir.path()).cycles(), [["a", "b::inner"]]);
}
