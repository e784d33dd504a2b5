# What Bedrock's build calls: all, clean, install, uninstall; check runs every test. CARGOFLAGS: --offline for vendored
# dependencies.
prefix     ?= /usr/local
DESTDIR    ?=
CARGO      ?= cargo
CARGOFLAGS ?=
sbindir     = $(DESTDIR)$(prefix)/sbin
mandir      = $(DESTDIR)$(prefix)/share/man
bashdir     = $(DESTDIR)$(prefix)/share/bash-completion/completions
zshdir      = $(DESTDIR)$(prefix)/share/zsh/site-functions
fishdir     = $(DESTDIR)$(prefix)/share/fish/vendor_completions.d
# For compilers that do not know the name `host-tuple` in .cargo/config.toml.
CARGO_BUILD_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
export CARGO_BUILD_TARGET
built       = $(or $(CARGO_TARGET_DIR),target)/$(CARGO_BUILD_TARGET)/release
docs        = $(or $(CARGO_TARGET_DIR),target)/docs

.PHONY: all docs clean install uninstall check

all:
	$(CARGO) build --release --locked $(CARGOFLAGS)

docs: all
	$(CARGO) build --locked $(CARGOFLAGS) --features docs --bin etcfs-docs
	"$(built)/../debug/etcfs-docs" "$(docs)" "$(built)/etcfs" "$(built)/etcfsctl"

clean:
	$(CARGO) clean

install: docs
	install -D -m 755 -s "$(built)/etcfs" "$(sbindir)/etcfs"
	install -D -m 755 -s "$(built)/etcfsctl" "$(sbindir)/etcfsctl"
	install -D -m 644 "$(docs)/man/etcfs.8" "$(mandir)/man8/etcfs.8"
	install -D -m 644 "$(docs)/man/etcfsctl.8" "$(mandir)/man8/etcfsctl.8"
	install -D -m 644 "$(docs)/man/etcfs-config.5" "$(mandir)/man5/etcfs-config.5"
	install -D -m 644 "$(docs)/completions/bash/etcfs" "$(bashdir)/etcfs"
	install -D -m 644 "$(docs)/completions/bash/etcfsctl" "$(bashdir)/etcfsctl"
	install -D -m 644 "$(docs)/completions/zsh/_etcfs" "$(zshdir)/_etcfs"
	install -D -m 644 "$(docs)/completions/zsh/_etcfsctl" "$(zshdir)/_etcfsctl"
	install -D -m 644 "$(docs)/completions/fish/etcfs.fish" "$(fishdir)/etcfs.fish"
	install -D -m 644 "$(docs)/completions/fish/etcfsctl.fish" "$(fishdir)/etcfsctl.fish"

uninstall:
	rm -f "$(sbindir)/etcfs" "$(sbindir)/etcfsctl"
	rm -f "$(mandir)/man8/etcfs.8" "$(mandir)/man8/etcfsctl.8" "$(mandir)/man5/etcfs-config.5"
	rm -f "$(bashdir)/etcfs" "$(bashdir)/etcfsctl" "$(zshdir)/_etcfs" "$(zshdir)/_etcfsctl"
	rm -f "$(fishdir)/etcfs.fish" "$(fishdir)/etcfsctl.fish"

check:
	scripts/test
