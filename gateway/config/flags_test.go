package config

import (
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func TestFlagsAreEnoughForOneSite(t *testing.T) {
	dir := testDir(t)
	got, err := FromFlags(Flags{
		Listen: ":8080", Wwwroot: "https://idp.example.org/", Upstream: "http://127.0.0.1:8081",
		Peers: []string{"http://127.0.0.1:9000"}, StateDir: "state",
	})
	if err != nil {
		t.Fatal(err)
	}
	peers, err := gateway.NewAllowlist(&gateway.Peer{
		Wwwroot: wwwroot(t, "http://127.0.0.1:9000"), Application: "moodle",
		Publish: []string{"sso_idp"}, Subscribe: []string{"sso_sp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen:   ":8080",
		Admin:    "127.0.0.1:9180",
		Redis:    &Redis{Embedded: true},
		StateDir: filepath.Join(dir, "state"),
		Log:      Log{Level: slog.LevelInfo, Format: "text"},
		Limits:   usualLimits,
		Audit:    DefaultAudit(filepath.Join(dir, "state")),
		Sites: []*Site{{
			Wwwroot:         wwwroot(t, "https://idp.example.org"),
			Upstream:        &url.URL{Scheme: "http", Host: "127.0.0.1:8081"},
			UpstreamTimeout: 5 * time.Minute,
			Issuer:          "gateway",
			Identity: Identity{
				Source: "moodle-web", Cookie: "MoodleSession", MnetLocalhostID: 1,
				SessionTimeout: 8 * time.Hour,
			},
			MNet:     MNet{TimestampWindow: 5 * time.Minute, RotateKey: true},
			Landing:  Landing{By: "moodle"},
			Unsigned: "allow", MaxLinkLife: 90 * 24 * time.Hour,
			Peers: peers,
		}},
	}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEveryFlagMeansWhatAFileWouldSay sets all flags, and none twice alike.
func TestEveryFlagMeansWhatAFileWouldSay(t *testing.T) {
	dir := testDir(t)
	flags := Flags{
		Listen: ":8443", AdminListen: "off", Wwwroot: "https://idp.example.org", Upstream: "http://127.0.0.1:8081", Issuer: "moodle",
		Peers: []string{
			"https://sp.example.org=sp.pem",
			"https://b.example.org=sha256:" + strings.Repeat("AB:", 31) + "AB",
		},
		StateDir: "state", TrustedProxies: []string{"10.0.0.0/8", "::1"}, Key: "tls.key",
		Redis: "rediss://app@ours/1", RedisPasswordFile: "password",
		MoodleRedis: "redis://theirs", MoodleRedisPasswordFile: "tls.key", MoodlePrefix: "moodle_",
		MoodleCookie: "MoodleSessionx", MoodleMFA: true, LogLevel: "warn", LogFormat: "json",
	}
	flags.MoodleRedisPasswordFile = "other-password"
	writeFile(t, "other-password", "hunter3")
	for f, v := range reflect.ValueOf(flags).Fields() {
		if v.IsZero() && f.Name != "MoodleTokenFile" { // which is for moodle-web
			t.Errorf("%s is not set", f.Name)
		}
	}
	got, err := FromFlags(flags)
	if err != nil {
		t.Fatal(err)
	}
	want := load(t, `
listen: :8443
admin: {listen: "off"}
redis: {url: rediss://app@ours/1, password_file: password}
trusted_proxies: [10.0.0.0/8, "::1"]
state_dir: state
log: {level: warn, format: json}
sites:
  - wwwroot: https://idp.example.org
    upstream: http://127.0.0.1:8081
    issuer: moodle
    key: tls.key
    identity:
      redis: {url: redis://theirs, password_file: other-password}
      prefix: moodle_
      cookie: MoodleSessionx
      mfa: true
    peers:
      - {wwwroot: https://sp.example.org, certificate: sp.pem}
      - {wwwroot: https://b.example.org, fingerprint: "SHA256:`+strings.Repeat("ab", 32)+`"}
`)
	want.File = ""
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("(-file +flags):\n%s", diff)
	}
	if diff := cmp.Diff(printed(t, want), printed(t, got)); diff != "" {
		t.Errorf("printed (-file +flags):\n%s", diff)
	}
	if got.Redis.Password != "hunter2" || got.Sites[0].Identity.Redis.Password != "hunter3" {
		t.Error("the passwords are not those of the files")
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}; !cmp.Equal(got.TrustedProxies, want, compare) {
		t.Errorf("got %v", got.TrustedProxies)
	}

	t.Run("a token is for moodle-web", func(t *testing.T) {
		got, err := FromFlags(Flags{Wwwroot: "https://idp.example.org", Upstream: "http://127.0.0.1:8081", MoodleTokenFile: "password"})
		if err != nil {
			t.Fatal(err)
		}
		if id := got.Sites[0].Identity; id.Token != "hunter2" || id.TokenFile != filepath.Join(dir, "password") {
			t.Errorf("got %+v", id)
		}
	})
}

func TestMoodlesSessionsAreInTheRedisThatFlagsName(t *testing.T) {
	for _, c := range []struct{ name, redis, moodleRedis, source, at string }{
		{"no Redis", "", "", "moodle-web", ""},
		{"the embedded one", "embedded", "", "moodle-web", ""},
		{"ours", "redis://ours", "", "moodle-redis", "ours:6379"},
		{"Moodle's own", "", "redis://theirs", "moodle-redis", "theirs:6379"},
		{"both", "redis://ours", "redis://theirs", "moodle-redis", "theirs:6379"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := FromFlags(Flags{
				Wwwroot: "https://idp.example.org", Upstream: "http://127.0.0.1:8081",
				Redis: c.redis, MoodleRedis: c.moodleRedis,
			})
			if err != nil {
				t.Fatal(err)
			}
			id, at := cfg.Sites[0].Identity, ""
			if id.Redis != nil {
				at = id.Redis.Addresses[0]
			}
			if id.Source != c.source || at != c.at {
				t.Errorf("got %s at %q", id.Source, at)
			}
		})
	}
}

func TestTheCommandLineFillsFlags(t *testing.T) {
	var got Flags
	parser, err := kong.New(&got)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse([]string{
		"--wwwroot", "https://idp.example.org", "--upstream=http://127.0.0.1:8081", "--moodle-mfa",
		"--peer", "https://a.example.org=a,b.pem", "--peer", "https://b.example.org",
		"--trusted-proxy", "10.0.0.0/8,::1", "--redis-password-file", "password", "--state-dir", "state",
	}); err != nil {
		t.Fatal(err)
	}
	want := Flags{
		Wwwroot: "https://idp.example.org", Upstream: "http://127.0.0.1:8081", MoodleMFA: true,
		Peers:          []string{"https://a.example.org=a,b.pem", "https://b.example.org"},
		TrustedProxies: []string{"10.0.0.0/8", "::1"}, RedisPasswordFile: "password", StateDir: "state",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAWrongFlagIsNamed(t *testing.T) {
	testDir(t)
	good := Flags{Wwwroot: "https://idp.example.org", Upstream: "http://127.0.0.1:8081"}
	for _, c := range []struct {
		name string
		make func(*Flags)
		want []string
		hint string
	}{
		{"none at all", func(f *Flags) { *f = Flags{} }, []string{"--wwwroot: is missing", "--upstream: is missing"}, "as in its config.php"},
		{"no upstream", func(f *Flags) { f.Upstream = "" }, []string{"--upstream: is missing"}, "the Moodle behind"},
		{"a wwwroot without scheme", func(f *Flags) { f.Wwwroot = "idp.example.org" },
			[]string{`--wwwroot: wwwroot "idp.example.org" does not begin with http:// or https://`}, "$CFG->wwwroot"},
		{"an upstream with a path", func(f *Flags) { f.Upstream = "http://a/moodle" },
			[]string{`--upstream: "upstream" must end after host and port`}, "without a path"},
		{"a bad port", func(f *Flags) { f.Listen = ":http" }, []string{`--listen: "listen": port "http" is not a number from 0 to 65535`}, ":8080"},
		{"a bad port of admin", func(f *Flags) { f.AdminListen = "9180" }, []string{`--admin-listen: "listen": "9180" is not host:port`}, "127.0.0.1"},
		{"two bad ones", func(f *Flags) { f.LogLevel, f.LogFormat = "loud", "xml" },
			[]string{`--log-format: unknown format "xml"`, `--log-level: unknown level "loud"`}, "debug, info"},
		{"a bad proxy", func(f *Flags) { f.TrustedProxies = []string{"10.0.0.0/33"} },
			[]string{`--trusted-proxy: "10.0.0.0/33" is neither an address nor a range of addresses`}, "10.0.0.0/8"},
		{"a password in a URL", func(f *Flags) { f.Redis = "redis://app:hunter2@a" },
			[]string{`--redis: "redis://app:***@a" has a password in it: secrets come by file or environment only`}, "give --redis-password-file"},
		{"a password in Moodle's URL", func(f *Flags) { f.MoodleRedis = "redis://:hunter2@a" },
			[]string{`--moodle-redis: "redis://:***@a" has a password in it: secrets come by file or environment only`}, "give --moodle-redis-password-file"},
		{"an open password file", func(f *Flags) { f.Redis, f.RedisPasswordFile = "redis://a", "open.key" },
			[]string{`--redis-password-file: cannot read "password_file": DIR/open.key: every account of this machine may use this secret (mode 0644)`}, "chmod o="},
		{"a missing key", func(f *Flags) { f.Key = "none" }, []string{`--key: cannot read "key": DIR/none: no such file or directory`}, "relative"},
		{"a peer without scheme", func(f *Flags) { f.Peers = []string{"sp.example.org"} },
			[]string{`--peer: wwwroot "sp.example.org" does not begin with http:// or https://`}, "$CFG->wwwroot"},
		{"an empty peer", func(f *Flags) { f.Peers = []string{""} }, []string{`--peer: "wwwroot" is empty`}, "value"},
		{"a peer twice", func(f *Flags) { f.Peers = []string{"https://sp.example.org", "https://sp.example.org=sp.pem"} },
			[]string{"--peer: https://sp.example.org is already a peer or an alias (--peer)"}, "once"},
		{"a peer without TLS", func(f *Flags) { f.Peers = []string{"http://sp.example.org"} },
			[]string{"--peer: http://sp.example.org has no TLS: anybody on the way could land as somebody else"}, "https"},
		{"a wrong fingerprint", func(f *Flags) { f.Peers = []string{"https://sp.example.org=SHA256:12"} },
			[]string{`--peer: "SHA256:12" is not SHA256: and 64 hexadecimal digits`}, "openssl"},
		{"a missing certificate", func(f *Flags) { f.Peers = []string{"https://sp.example.org=none.pem"} },
			[]string{`--peer: cannot read "certificate": DIR/none.pem: no such file or directory`}, "relative"},
		{"a certificate of somebody else", func(f *Flags) { f.Peers = []string{"https://sp.example.org=other.pem"} },
			[]string{"--peer: the certificate does not name https://sp.example.org"}, "publickey.php"},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := good
			c.make(&flags)
			_, err := FromFlags(flags)
			if err == nil {
				t.Fatal("accepted")
			}
			message, hint := describe(err)
			if diff := cmp.Diff(strings.Join(c.want, "\n")+"\n", message); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if !strings.Contains(hint, c.hint) {
				t.Errorf("the hint is %q", hint)
			}
			if strings.Contains(message+hint, "hunter2") {
				t.Errorf("a secret is shown: %s", message)
			}
		})
	}
}
