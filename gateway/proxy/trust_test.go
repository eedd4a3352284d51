package proxy

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestClientIsFoundThroughTrustedHopsOnly(t *testing.T) {
	trust := Trust{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
	tests := []struct {
		name   string
		trust  Trust
		remote string
		chain  []string
		want   string
	}{
		{"nobody is trusted by default", nil, "10.0.0.1:99", []string{"203.0.113.1"}, "10.0.0.1"},
		{"a stranger's word counts nothing", trust, "198.51.100.1:99", []string{"203.0.113.1"}, "198.51.100.1"},
		{"a trusted proxy names the client", trust, "10.0.0.1:99", []string{"203.0.113.1"}, "203.0.113.1"},
		{"what the client forged is left of it", trust, "10.0.0.1:99", []string{"1.1.1.1, 10.9.9.9, 203.0.113.1"}, "203.0.113.1"},
		{"through several hops", trust, "10.0.0.1:99", []string{"1.1.1.1,203.0.113.1, 10.0.0.3 ,10.0.0.2"}, "203.0.113.1"},
		{"over several fields", trust, "10.0.0.1:99", []string{"1.1.1.1", "203.0.113.1", "10.0.0.2"}, "203.0.113.1"},
		{"all trusted", trust, "10.0.0.1:99", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"no chain", trust, "10.0.0.1:99", nil, "10.0.0.1"},
		{"garbage stops the walk", trust, "10.0.0.1:99", []string{"203.0.113.1, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"an empty entry stops the walk", trust, "10.0.0.1:99", []string{"203.0.113.1,, 10.0.0.2"}, "10.0.0.2"},
		{"an empty field stops the walk", trust, "10.0.0.1:99", []string{"203.0.113.1", ""}, "10.0.0.1"},
		{"a trailing comma stops the walk", trust, "10.0.0.1:99", []string{"203.0.113.1,"}, "10.0.0.1"},
		{"with a port", trust, "10.0.0.1:99", []string{"203.0.113.1:1234"}, "203.0.113.1"},
		{"version 6", trust, "[2001:db8::1]:99", []string{"2001:0DB9::0001"}, "2001:db9::1"},
		{"version 6 in brackets", trust, "[2001:db8::1]:99", []string{"[2001:db9::1]"}, "2001:db9::1"},
		{"version 6 with a port", trust, "[2001:db8::1]:99", []string{"[2001:db9::1]:80"}, "2001:db9::1"},
		{"an unclosed bracket stops the walk", trust, "10.0.0.1:99", []string{"[2001:db9::1"}, "10.0.0.1"},
		{"version 4 inside 6", trust, "[::ffff:10.0.0.1]:99", []string{"::ffff:203.0.113.1"}, "203.0.113.1"},
		{"a zone", nil, "[fe80::1%eth0]:99", nil, "fe80::1"},
		{"octal is garbage", trust, "10.0.0.1:99", []string{"0313.0.113.1"}, "10.0.0.1"},
		{"a socket without an address", trust, "@", []string{"203.0.113.1"}, "invalid IP"},
		{"a very long chain", trust, "10.0.0.1:99", []string{strings.Repeat("10.0.0.2,", 30000) + "10.0.0.3"}, "10.0.0.2"},
	}
	for _, tt := range tests {
		r := &http.Request{RemoteAddr: tt.remote, Header: http.Header{}}
		if tt.chain != nil {
			r.Header["X-Forwarded-For"] = tt.chain
		}
		if got := tt.trust.Client(r).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestDirectIsTheConnectionAndNotWhatItSays(t *testing.T) {
	trust := Trust{netip.MustParsePrefix("10.0.0.0/8")}
	header := http.Header{"X-Forwarded-For": {"10.0.0.1"}}
	for remote, want := range map[string]bool{"10.0.0.1:9": true, "[::ffff:10.0.0.1]:9": true, "192.0.2.1:9": false, "@": false} {
		if got := trust.Direct(&http.Request{RemoteAddr: remote, Header: header}); got != want {
			t.Errorf("%s: %v", remote, got)
		}
	}
}
