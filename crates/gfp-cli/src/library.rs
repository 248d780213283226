//! Finding `libgfp_malloc.so`, and asking the loader for it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const NAME: &str = "libgfp_malloc.so";

/// Where the library may be, seen from the directory of `gfp`. `deps` is where cargo puts it when
/// it builds `gfp`; it comes first, since cargo leaves an older copy beside `gfp` where the library
/// was once built by itself.
const PLACES: [&str; 3] = ["deps", "", "../lib"];

/// The library: `named` (the value of `GFP_MALLOC_LIB`) or else near the executable `exe`.
pub(crate) fn find(named: Option<&OsStr>, exe: &Path) -> Result<PathBuf, Failure> {
    let found = match named {
        Some(named) => {
            let path = PathBuf::from(named);
            if !path.is_file() {
                let message = format!("GFP_MALLOC_LIB={}: there is no such file", path.display());
                return Err(Failure::own(message));
            }
            path
        }
        None => {
            let dir = exe.parent().unwrap_or(Path::new("/"));
            let found = PLACES
                .iter()
                .map(|place| dir.join(place).join(NAME))
                .find(|p| p.is_file());
            found.ok_or_else(|| {
                Failure::own(format!(
                    "{NAME} is neither in {0}/deps, {0}, nor {0}/../lib: build it \
                     (cargo build --release) or name it in GFP_MALLOC_LIB",
                    dir.display()
                ))
            })?
        }
    };
    let path = found
        .canonicalize()
        .map_err(|error| Failure::own(format!("{}: {error}", found.display())))?;
    // The loader splits at colons and blanks, and expands $ORIGIN and its like.
    if path
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|byte| matches!(byte, b':' | b'$' | b' ' | b'\t'))
    {
        return Err(Failure::own(format!(
            "{}: the loader takes no LD_PRELOAD path with a blank, ':' or '$' in it: \
             copy the library elsewhere and name it in GFP_MALLOC_LIB",
            path.display()
        )));
    }
    Ok(path)
}

/// The value of `LD_PRELOAD` that puts `library` in front of what is `set`.
pub(crate) fn preload(library: &Path, set: Option<&OsStr>) -> OsString {
    let mut value = library.as_os_str().to_owned();
    let others = set
        .unwrap_or_default()
        .as_bytes()
        .split(|byte| matches!(byte, b':' | b' '));
    for other in
        others.filter(|other| !other.is_empty() && *other != library.as_os_str().as_bytes())
    {
        value.push(":");
        value.push(OsStr::from_bytes(other));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::TempDir;
    use std::fs;

    #[test]
    fn the_library_is_found_near_the_command() {
        let dir = TempDir::new("library").unwrap();
        let bin = dir.path().canonicalize().unwrap().join("bin");
        let exe = bin.join("gfp");
        fs::create_dir_all(bin.join("deps")).unwrap();
        fs::create_dir_all(bin.join("../lib")).unwrap();
        let missing = find(None, &exe).unwrap_err();
        assert!(missing.message.contains("GFP_MALLOC_LIB"), "{missing:?}");
        for (place, found) in [("../lib", "../lib"), ("", ""), ("deps", "deps")] {
            fs::write(bin.join(place).join(NAME), "").unwrap();
            let expected = bin.join(found).join(NAME).canonicalize().unwrap();
            assert_eq!(find(None, &exe), Ok(expected));
        }
    }

    #[test]
    fn a_named_library_must_be_there_and_loadable() {
        let dir = TempDir::new("library").unwrap();
        let named = dir.path().canonicalize().unwrap().join("x.so");
        let exe = Path::new("/nowhere/gfp");
        assert!(
            find(Some(named.as_os_str()), exe)
                .unwrap_err()
                .message
                .contains("no such file")
        );
        fs::write(&named, "").unwrap();
        assert_eq!(find(Some(named.as_os_str()), exe), Ok(named));
        let odd = dir.path().join("a b.so");
        fs::write(&odd, "").unwrap();
        assert!(
            find(Some(odd.as_os_str()), exe)
                .unwrap_err()
                .message
                .contains("blank")
        );
    }

    #[test]
    fn the_library_comes_first_and_once() {
        let library = Path::new("/l.so");
        for (set, value) in [
            (None, "/l.so"),
            (Some(""), "/l.so"),
            (Some("/a.so"), "/l.so:/a.so"),
            (Some("/a.so /b.so:/l.so"), "/l.so:/a.so:/b.so"),
            (Some("/l.so"), "/l.so"),
        ] {
            assert_eq!(preload(library, set.map(OsStr::new)), value);
        }
    }
}
