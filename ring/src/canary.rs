//! Canaries: bugs planted on purpose, by which `chaos prove` shows that the tests would notice them.
//!
//! `canary!("name")` stands where the bug is planted. In every ordinary build it is the constant `false`, and the compiler drops
//! the branch behind it. With the private feature `canaries` it is true in a process that was started with
//! `RINGWARD_CANARY=name`, and says so on stderr when it is first met.
//!
//! Such a build can't be shipped by accident: it needs the feature, a variable in the compiler's environment, and debug
//! assertions; without all three it does not compile.

/// Whether the canary of this name is planted here: never, but in the builds of `chaos prove`.
#[doc(hidden)]
#[macro_export]
macro_rules! canary {
    ($name:literal) => {
        $crate::canary::planted($name)
    };
}

/// Never: this is an ordinary build.
#[cfg(not(feature = "canaries"))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}

#[cfg(not(feature = "canaries"))]
const _: () = assert!(!canary!("harmless"));

#[cfg(all(feature = "canaries", not(debug_assertions)))]
compile_error!("the feature `canaries` plants bugs, and is refused in builds without debug assertions");

#[cfg(feature = "canaries")]
const _: () = assert!(
    option_env!("RINGWARD_BUILD_CANARIES").is_some(),
    "the feature `canaries` plants bugs: it is for `chaos prove` alone, which sets RINGWARD_BUILD_CANARIES"
);

#[cfg(feature = "canaries")]
pub use chosen::planted;

#[cfg(feature = "canaries")]
mod chosen {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static NAME: OnceLock<Option<String>> = OnceLock::new();
    static MET: AtomicBool = AtomicBool::new(false);

    /// Whether this process was started with `RINGWARD_CANARY` set to `name`.
    pub fn planted(name: &str) -> bool {
        let chosen = NAME.get_or_init(|| std::env::var("RINGWARD_CANARY").ok().filter(|name| !name.is_empty()));
        let here = chosen.as_deref() == Some(name);
        if here && !MET.swap(true, Ordering::Relaxed) {
            eprintln!("*** RINGWARD CANARY: the bug {name:?} is planted in this process. Never use this build. ***");
        }
        here
    }
}
