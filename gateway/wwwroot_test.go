package gateway_test

import (
	"encoding/json"
	"strings"
	"testing"

	"jumpgate/gateway"
)

func TestParseWwwroot(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a host", "https://moodle.example.org", "https://moodle.example.org"},
		{"a host and a path", "https://example.org/learn/m45", "https://example.org/learn/m45"},
		{"a trailing slash", "https://example.org/", "https://example.org"},
		{"a trailing slash after a path", "https://example.org/moodle/", "https://example.org/moodle"},
		{"upper case", "HTTP://Example.ORG/Moodle", "http://example.org/Moodle"},
		{"the default port of http", "http://example.org:80", "http://example.org"},
		{"the default port of https", "https://example.org:443/m", "https://example.org/m"},
		{"another port", "http://example.org:443", "http://example.org:443"},
		{"an IPv4 address", "http://127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"an IPv6 address", "http://[2001:DB8:0::1]:8080", "http://[2001:db8::1]:8080"},
		{"an internationalised name in ASCII", "https://xn--bcher-kva.example", "https://xn--bcher-kva.example"},
		{"an underscore in a name", "http://sp_1.test", "http://sp_1.test"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := gateway.ParseWwwroot(test.in)
			if err != nil || got.String() != test.want {
				t.Fatalf("ParseWwwroot(%q) = %q, %v, want %q", test.in, got, err, test.want)
			}
			again, err := gateway.ParseWwwroot(got.String())
			if err != nil || again != got {
				t.Errorf("parsed again: %q, %v", again, err)
			}
		})
	}
}

func TestParseWwwrootRefuses(t *testing.T) {
	for _, in := range []string{
		"", "example.org", "ftp://example.org", "https:example.org", "https://", "https:///x", "https:// example.org",
		"https://user@example.org", "https://user:pw@example.org", "https://example.org?x", "https://example.org#x",
		"https://example.org.", "https://.example.org", "https://exa mple.org", "https://exa%6dple.org", "https://-a.test",
		"https://bücher.example", "https://ｅxample.org", "https://xn--evil-.test", "https://a..b",
		"https://example.org:", "https://example.org:0", "https://example.org:0443", "https://example.org:65536", "https://example.org:+80",
		"https://127.1", "https://0x7f.1", "https://2130706433", "https://1.2.3.04", "https://example.1x",
		"https://[::1", "https://::1", "https://[::1%25eth0]", "https://[::ffff:1.2.3.4]", "https://[example.org]", "https://[::1]x",
		"https://example.org//x", "https://example.org/a/../b", "https://example.org/a%2fb", "https://example.org/a b", "https://example.org//",
		`https://example.org\x`, "https://example.org/\t", "https://" + strings.Repeat("a.", 130) + "test",
	} {
		if w, err := gateway.ParseWwwroot(in); err == nil {
			t.Errorf("ParseWwwroot(%q) = %q, want an error", in, w)
		}
	}
}

func TestParseWwwrootRepeatsNoPassword(t *testing.T) {
	for _, in := range []string{"http://u:s3cr3t@h", "https://u:s3cr3t@h:8080/x", "http://s3cr3t@h"} {
		if _, err := gateway.ParseWwwroot(in); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestWwwrootParts(t *testing.T) {
	tests := []struct {
		in, origin, scheme, host, hostname, path string
		loopback                                 bool
	}{
		{"https://example.org/a/b", "https://example.org", "https", "example.org", "example.org", "/a/b", false},
		{"http://localhost:8080", "http://localhost:8080", "http", "localhost:8080", "localhost", "", true},
		{"http://[::1]:8080/m", "http://[::1]:8080", "http", "[::1]:8080", "::1", "/m", true},
		{"http://[::1]", "http://[::1]", "http", "[::1]", "::1", "", true},
		{"http://127.8.9.1", "http://127.8.9.1", "http", "127.8.9.1", "127.8.9.1", "", true},
		{"http://idp.localhost", "http://idp.localhost", "http", "idp.localhost", "idp.localhost", "", false},
		{"http://localhost.example.org", "http://localhost.example.org", "http", "localhost.example.org", "localhost.example.org", "", false},
	}
	for _, test := range tests {
		w := wwwroot(t, test.in)
		if w.Origin() != test.origin || w.Scheme() != test.scheme || w.Host() != test.host ||
			w.Hostname() != test.hostname || w.Path() != test.path || w.Loopback() != test.loopback {
			t.Errorf("%s: origin %q scheme %q host %q hostname %q path %q loopback %v", w, w.Origin(), w.Scheme(), w.Host(), w.Hostname(), w.Path(), w.Loopback())
		}
	}
}

func TestWwwrootTravelsInJSON(t *testing.T) {
	b, err := json.Marshal(wwwroot(t, "https://example.org/m"))
	if err != nil {
		t.Fatal(err)
	}
	var back gateway.Wwwroot
	if err := json.Unmarshal(b, &back); err != nil || back != wwwroot(t, "https://example.org/m") {
		t.Errorf("%s became %q, %v", b, back, err)
	}
	if err := json.Unmarshal([]byte(`"evil"`), &back); err == nil {
		t.Error("a wwwroot without scheme was taken from JSON")
	}
}
