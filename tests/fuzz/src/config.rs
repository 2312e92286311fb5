//! `relay.toml`: any text is a configuration, or yields one line that says where it is wrong.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay::internals::load_config;
use relay_fuzz::folder;

fuzz_target!(|text: &str| {
    let platform = folder().join("platform");
    std::fs::create_dir_all(&platform).expect("a folder");
    std::fs::write(platform.join("relay.toml"), text).expect("a file");
    if let Err(reason) = load_config(folder()) {
        assert!(!reason.contains('\n') && reason.contains("relay.toml"), "{reason}");
    }
});
