package gateway_test

import (
	"strings"
	"testing"

	"jumpgate/gateway"
)

func destination(t testing.TB, s string) gateway.Destination {
	t.Helper()
	d, err := gateway.ParseDestination(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseDestination(t *testing.T) {
	tests := []struct{ in, want string }{
		{"https://login.example.org", "https://login.example.org"},
		{"HTTPS://Login.Example.ORG:443/", "https://login.example.org"},
		{"http://login.example.org:80", "http://login.example.org"},
		{"http://login.example.org:443", "http://login.example.org:443"},
		{"https://login.example.org/realms/College/", "https://login.example.org/realms/College"},
		{"https://*.example.org", "https://*.example.org"},
		{"https://*.Example.org:8443/x", "https://*.example.org:8443/x"},
		{"https://192.0.2.1:8443", "https://192.0.2.1:8443"},
		{"https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"},
		{"https://localhost:9000", "https://localhost:9000"},
		{"moodlemobile:", "moodlemobile:"},
		{"MoodleMobile:", "moodlemobile:"},
		{"com.example.app:", "com.example.app:"},
	}
	for _, test := range tests {
		d, err := gateway.ParseDestination(test.in)
		if err != nil || d.String() != test.want {
			t.Errorf("%q is %q, %v, want %q", test.in, d, err, test.want)
			continue
		}
		if again := destination(t, d.String()); again != d {
			t.Errorf("%q printed is %q", test.in, again)
		}
	}
	for _, bad := range []string{
		"", "login.example.org", "//login.example.org", "https:", "https:login.example.org", "https://", "https:///x", "https://*", "https://*.",
		"https://*.org", "https://*.co.uk", "https://*.github.io", "https://*.localhost", "https://*.192.0.2.1", "https://*.[2001:db8::1]",
		"https://*.*.example.org", "https://login*.example.org", "https://a.*.example.org", "https://.example.org", "https://example.org.",
		"https://u@login.example.org", "https://u:hunter2@login.example.org", "https://login.example.org:0", "https://login.example.org:x",
		"https://login.example.org?x", "https://login.example.org/#x", "https://login.example.org/a?x", "https://login.example.org/a/../b",
		"https://login.example.org/a//b", "https://login.example.org/%61", "https://login.example.org/a b", `https://login.example.org\x`,
		"https://bücher.example", "https://0x7f.1", "https://1", "*://login.example.org", "*", "javascript:", "data:", "intent:", "Microsoft-Edge:", "googlechromes:", "JAVASCRIPT:", "file:", "ftp:", "wss:",
		"moodlemobile://", "moodlemobile:token", "mailto:a@b", strings.Repeat("a", 65) + ":", " https://login.example.org", "https://" + strings.Repeat("a.", 130) + "org",
	} {
		if d, err := gateway.ParseDestination(bad); err == nil {
			t.Errorf("%q is %q", bad, d)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is repeated: %v", err)
		}
	}
}
