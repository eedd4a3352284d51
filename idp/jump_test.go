package idp_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

func TestJump(t *testing.T) {
	tests := []struct {
		name, method, query, session string
		rule                         gateway.Rule
		refused, failed              bool
		location                     string // a prefix
	}{
		{"a learner who is logged in lands", "GET", "hostwwwroot=https://sp.test&wantsurl=%2Fx%3Fd%3D1%23p2", adas, "path", false, false,
			"https://sp.test/auth/mnet/land.php?token="},
		{"without a wantsurl on the front page", "GET", "hostid=3", adas, "empty", false, false, "https://sp.test/auth/mnet/land.php?token="},
		{"at a Mahara on its own address", "GET", "hostwwwroot=mahara.test", adas, "empty", false, false, "https://mahara.test/auth/xmlrpc/land.php?token="},
		{"an anonymous one goes to the login page", "GET", "hostid=3&wantsurl=/x", anonymous, "path", false, false, "https://home.test/moodle/login/index.php?jumpgate="},
		{"so does one without a session", "GET", "hostid=3&wantsurl=/x", "", "path", false, false, "https://home.test/moodle/login/index.php?jumpgate="},
		{"so does a guest", "GET", "hostid=3&wantsurl=/x", guests, "path", false, false, "https://home.test/moodle/login/index.php?jumpgate="},
		{"so does one whose second factor is missing", "GET", "hostid=3&wantsurl=/x", factors, "path", false, false, "https://home.test/moodle/login/index.php?jumpgate="},
		{"a session that is no session id is nobody's", "GET", "hostid=3&wantsurl=/x", "../../evil", "path", false, false, "https://home.test/moodle/login/index.php?jumpgate="},
		{"an administrator as somebody else stays", "GET", "hostid=3&wantsurl=/x", workers, "user-login-as", true, false, ""},
		{"a refused target is refused before anybody is asked", "GET", "hostid=3&wantsurl=//evil.test", broken, "scheme-relative", true, false, ""},
		{"an unknown peer", "GET", "hostwwwroot=https://evil.test", adas, "peer-unknown", true, false, ""},
		{"no peer", "GET", "wantsurl=/x", adas, "peer-missing", true, false, ""},
		{"a repeated parameter", "GET", "hostid=3&hostid=3", adas, "repeated", true, false, ""},
		{"64 KB of query", "GET", "hostid=3&wantsurl=" + strings.Repeat("%2F", 21000), adas, "query-too-long", true, false, ""},
		{"when Moodle cannot be asked, nobody jumps", "GET", "hostid=3&wantsurl=/x", broken, "path", false, true, ""},
		{"a HEAD is decided and not done", "HEAD", "hostid=3&wantsurl=/x", adas, "path", false, false, ""},
		{"a HEAD of a refused target is refused", "HEAD", "hostid=3&wantsurl=//x", adas, "scheme-relative", true, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{})
			b := browser{"other": "x"}
			if test.session != "" {
				b["MoodleSession"] = test.session
			}
			w := httptest.NewRecorder()
			a := h.Jump(w, b.request(test.method, "https://home.test/moodle/auth/mnet/jump.php?"+test.query))
			if a.Rule != test.rule || a.Refused != test.refused || (a.Err != nil) != test.failed {
				t.Errorf("rule %s, refused %v, error %v", a.Rule, a.Refused, a.Err)
			}
			if !strings.HasPrefix(a.Location, test.location) || (a.Location == "") != (test.location == "") {
				t.Errorf("location %q, want %q…", a.Location, test.location)
			}
			if refused := test.refused || test.method == "HEAD"; refused && (h.trips.n.Load() != 0 || w.Header().Get("Set-Cookie") != "") {
				t.Errorf("%d round trips, cookies %q", h.trips.n.Load(), w.Header()["Set-Cookie"])
			}
		})
	}
}

func TestOnlyANavigationJumps(t *testing.T) {
	for _, test := range []struct {
		name, header, value string
		jumps               bool
	}{
		{"a click", "Sec-Fetch-Dest", "document", true},
		{"a browser that does not say", "Accept", "*/*", true},
		{"a picture", "Sec-Fetch-Dest", "image", false},
		{"an inline frame", "Sec-Fetch-Dest", "iframe", false},
		{"a frame of a frameset", "Sec-Fetch-Dest", "frame", false},
		{"an object", "Sec-Fetch-Dest", "object", false},
		{"an embedded page", "Sec-Fetch-Dest", "embed", false},
		{"a script", "Sec-Fetch-Dest", "empty", false},
		{"a prefetch", "Sec-Purpose", "prefetch", false},
		{"a page drawn in advance", "Sec-Purpose", "prefetch;prerender", false},
		{"an older prefetch", "Purpose", "prefetch", false},
		{"a prefetch of an older Firefox", "X-Moz", "prefetch", false},
		{"a page in an Android app, which browsers inside apps tell", "X-Requested-With", "com.moodle.moodlemobile", true},
		{"an older script", "X-Requested-With", "XMLHttpRequest", false},
	} {
		for _, session := range []string{adas, anonymous} {
			h := newHome(t, store.Limits{})
			b := browser{"MoodleSession": session}
			r := b.request("GET", "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/x")
			r.Header.Set(test.header, test.value)
			w := httptest.NewRecorder()
			a := h.Jump(w, r)
			if jumps := a.Location != ""; jumps != test.jumps || !jumps && (a.Rule != gateway.RuleNotNavigation || h.trips.n.Load() != 0) {
				t.Errorf("%s by %s: %+v", test.name, session, a)
			}
		}
	}
}

func TestACookieOfAnotherNameIsNoticed(t *testing.T) {
	for _, test := range []struct {
		name  string
		b     browser
		other string
	}{
		{"no session", browser{"x": "y"}, ""},
		{"the right one", browser{"MoodleSession": anonymous, "MoodleSessionx": adas}, ""},
		{"another one", browser{"MoodleSessionhome": adas}, "MoodleSessionhome"},
	} {
		h := newHome(t, store.Limits{})
		if a := h.jump(test.b, "/x"); a.OtherCookie != test.other || a.Landing {
			t.Errorf("%s: %+v", test.name, a)
		}
	}
}

func TestAJumpCostsOneRoundTrip(t *testing.T) {
	h := newHome(t, store.Limits{})
	for _, test := range []struct {
		name string
		b    browser
	}{
		{"logged in", browser{"MoodleSession": adas}},
		{"anonymous", browser{"MoodleSession": anonymous}},
	} {
		h.jump(test.b, "/warm-up") // loads the script
		for range 2 {              // the second time the browser has our cookie
			before := h.trips.n.Load()
			h.jump(test.b, "/x")
			if got := h.trips.n.Load() - before; got != 1 {
				t.Errorf("%s: %d round trips", test.name, got)
			}
		}
	}
}

func TestFloodsWithoutCookiesAreCapped(t *testing.T) {
	h := newHome(t, store.Limits{PerAddress: 3, PerSite: 100})
	token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
	for i := range 3 {
		if a := h.jump(browser{}, "/x"); a.Refused || a.Err != nil {
			t.Fatalf("jump %d: %+v", i, a)
		}
	}
	if a := h.jump(browser{}, "/x"); !a.Refused || a.Rule != gateway.RuleTooMany {
		t.Errorf("the fourth browser of an address: %+v", a)
	}
	if a := h.jump(browser{"MoodleSession": adas}, "/x"); !a.Landing {
		t.Errorf("a learner who is logged in: %+v", a)
	}
	if _, err := h.redeem(t, "sp.test", token, firefox, 1); err != nil {
		t.Errorf("a token from before the flood: %v", err)
	}
}

func TestWithoutRedisNobodyJumps(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.redis.Close()
	for name, b := range map[string]browser{"logged in": {"MoodleSession": adas}, "anonymous": {}} {
		if a := h.jump(b, "/x"); a.Err == nil || a.Location != "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a := h.jump(browser{}, "//evil.test"); a.Err != nil || !a.Refused {
		t.Errorf("a refusal needs no Redis: %+v", a)
	}
}
