package idp_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestABrowserThatKeepsNoCookieIsNotAskedToLogIn(t *testing.T) {
	for _, test := range []struct {
		name     string
		unsigned gateway.Unsigned
		change   func(r *http.Request)
		refused  bool
		again    string
	}{
		{"a jump's login page without a cookie", gateway.UnsignedAllow, nil, true,
			"https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx"},
		{"a site that asks about the jumps of others", gateway.UnsignedConfirm, nil, true, ""},
		{"a site that refuses the jumps of others", gateway.UnsignedRefuse, nil, true, ""},
		{"with any cookie", gateway.UnsignedAllow, func(r *http.Request) { r.Header.Set("Cookie", "lang=en") }, false, ""},
		{"a program", gateway.UnsignedAllow, func(r *http.Request) { r.Header.Del("Sec-Fetch-Mode") }, false, ""},
		{"a frame", gateway.UnsignedAllow, func(r *http.Request) { r.Header.Set("Sec-Fetch-Dest", "iframe") }, false, ""},
		{"the form", gateway.UnsignedAllow, func(r *http.Request) { r.Method = "POST" }, false, ""},
		{"another page", gateway.UnsignedAllow, func(r *http.Request) { r.URL.Path = "/moodle/my/" }, false, ""},
		{"no jump", gateway.UnsignedAllow, func(r *http.Request) { r.URL.RawQuery = "jumpgate=x" }, false, ""},
		{"a jump of nobody's", gateway.UnsignedAllow, func(r *http.Request) { r.URL.RawQuery += "x" }, false, ""},
		{"a jump's name that is none", gateway.UnsignedAllow, func(r *http.Request) { r.URL.RawQuery = "testsession=3" }, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := careful(t, test.unsigned, false)
			sent := h.click(browser{}, own, "").Location
			if !strings.HasPrefix(sent, login+"?jumpgate=") {
				t.Fatalf("the click leads to %q", sent)
			}
			r := browser{}.request("GET", sent)
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			r.Header.Set("Sec-Fetch-Dest", "document")
			if test.change != nil {
				test.change(r)
			}
			refused := false
			if h.Forgets(r) {
				a, ok := h.Forgot(r)
				if refused = ok; ok && (!a.Refused || a.Rule != gateway.RuleNoCookie || a.Again != test.again || a.Peer == nil) {
					t.Errorf("%+v", a)
				}
			}
			if refused != test.refused {
				t.Errorf("refused: %t, want %t", refused, test.refused)
			}
		})
	}
}

// The browser would have kept its cookie for as long as the jump waits.
func TestALoginPageThatWasKeptForLongIsShown(t *testing.T) {
	h := careful(t, gateway.UnsignedAllow, false)
	r := browser{}.request("GET", h.click(browser{}, own, "").Location)
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	h.now = h.now.Add(16 * time.Minute)
	if a, ok := h.Forgot(r); ok {
		t.Errorf("%+v", a)
	}
	h.redis.Close()
	if a, ok := h.Forgot(r); ok || a.Err != nil {
		t.Errorf("without redis: %+v", a)
	}
}
