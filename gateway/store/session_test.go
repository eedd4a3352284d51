package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/sessions"
)

const cookieName = "jumpgate"

// browser keeps one cookie and talks to one site.
type browser struct {
	*Sessions
	cookie *http.Cookie
	addr   string
}

func newBrowser(s *Site) *browser { return limited(s, Limits{}) }

func limited(s *Site, limits Limits) *browser {
	options := sessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	return &browser{Sessions: s.Sessions(options, limits, nil), addr: "192.0.2.1:1234"}
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = b.addr
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	return r
}

// save saves and takes over the cookie as a browser does.
func (b *browser) save(t *testing.T, r *http.Request, session *sessions.Session) error {
	t.Helper()
	w := httptest.NewRecorder()
	err := session.Save(r, w)
	for _, c := range w.Result().Cookies() {
		if b.cookie = c; c.MaxAge < 0 {
			b.cookie = nil
		}
	}
	return err
}

// write sets a value without reading first.
func (b *browser) write(t *testing.T, key, value string) error {
	t.Helper()
	r := b.request()
	session := b.Open(r, cookieName)
	session.Values[key] = value
	return b.save(t, r, session)
}

// read returns the session's values as a new request finds them.
func (b *browser) read(t *testing.T) map[string]string {
	t.Helper()
	session, err := b.Get(b.request(), cookieName)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for k, v := range session.Values {
		if k != (asRead{}) {
			values[k.(string)] = v.(string)
		}
	}
	return values
}

func TestSessionIsReadOncePerRequestAndWrittenInOneTrip(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		f.wantTrips(t, 0, func() {
			session, err := b.Get(b.request(), cookieName)
			if err != nil || !session.IsNew || session.ID != "" {
				t.Errorf("without a cookie: %+v, %v", session, err)
			}
			if err := b.save(t, b.request(), session); err != nil || b.cookie != nil {
				t.Errorf("an empty session is saved: %v, %v", b.cookie, err)
			}
		})
		f.wantTrips(t, 1, func() {
			if err := b.write(t, "color", "blue"); err != nil {
				t.Fatal(err)
			}
		})
		if c := b.cookie; len(c.Value) != 40 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 3600 {
			t.Errorf("cookie %s", c)
		}
		r := b.request()
		f.wantTrips(t, 1, func() {
			for range 3 {
				session, err := b.Get(r, cookieName)
				if err != nil || session.IsNew || session.Values["color"] != "blue" {
					t.Errorf("%v, %v", session.Values, err)
				}
			}
		})
	})
}

func TestTwoTabsDoNotOverwriteOneAnother(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		for _, kv := range []string{"a", "b", "c"} {
			if err := b.write(t, kv, "old"); err != nil {
				t.Fatal(err)
			}
		}
		r1, r2 := b.request(), b.request()
		tab1, err1 := b.Get(r1, cookieName)
		tab2, err2 := b.Get(r2, cookieName)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		tab1.Values["a"] = "tab 1"
		tab1.Values["x"] = "tab 1"
		delete(tab2.Values, "b")
		tab2.Values["y"] = "tab 2"
		if err := errors.Join(b.save(t, r1, tab1), b.save(t, r2, tab2)); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"a": "tab 1", "c": "old", "x": "tab 1", "y": "tab 2"}
		if diff := cmp.Diff(want, b.read(t)); diff != "" {
			t.Error(diff)
		}
		// A second save of the same session writes what changed since the first.
		delete(tab1.Values, "x")
		if err := b.save(t, r1, tab1); err != nil {
			t.Fatal(err)
		}
		delete(want, "x")
		if diff := cmp.Diff(want, b.read(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestCookieThatNamesNoLiveSessionIsNeverTakenOver(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for name, value := range map[string]string{
			"forged":     random(40),
			"malformed":  "not a cookie of ours",
			"a key":      "*",
			"very long":  strings.Repeat("a", 5000),
			"empty":      "",
			"other size": random(39),
		} {
			b := newBrowser(f.Site)
			b.cookie = &http.Cookie{Name: cookieName, Value: value}
			r := b.request()
			session, err := b.Get(r, cookieName)
			if err != nil || !session.IsNew || len(session.Values) != 0 {
				t.Errorf("%s: %v, %v", name, session.Values, err)
			}
			f.wantTrips(t, 1, func() {
				if err := b.write(t, "k", "v"); err != nil {
					t.Fatal(err)
				}
			})
			if b.cookie.Value == value || !wellFormed(b.cookie.Value, 40) {
				t.Errorf("%s: the session got the ID %q", name, b.cookie.Value)
			}
			if got := b.read(t)["k"]; got != "v" {
				t.Errorf("%s: read %q", name, got)
			}
		}
	})
}

func TestNewSessionsAreCappedPerAddressAndSite(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		limits := Limits{PerAddress: 3, PerSite: 5}
		at := func(addr string) *browser {
			b := limited(f.Site, limits)
			b.addr = addr
			return b
		}
		var first *browser
		for i := range 3 {
			b := at("192.0.2.1:1000")
			if first == nil {
				first = b
			}
			if err := b.write(t, "k", "v"); err != nil {
				t.Fatalf("session %d: %v", i, err)
			}
		}
		refused := at("192.0.2.1:2000")
		f.wantTrips(t, 1, func() {
			if err := refused.write(t, "k", "v"); !errors.Is(err, ErrTooMany) || refused.cookie != nil {
				t.Errorf("fourth session of an address: %v, %v", err, refused.cookie)
			}
		})
		forged := at("192.0.2.1:2000")
		forged.cookie = &http.Cookie{Name: cookieName, Value: random(40)}
		if err := forged.write(t, "k", "v"); !errors.Is(err, ErrTooMany) {
			t.Errorf("with a forged cookie: %v, want ErrTooMany", err)
		}
		if err := first.write(t, "k", "again"); err != nil {
			t.Errorf("a browser with a session is refused: %v", err)
		}
		for i := range 2 {
			if err := at(fmt.Sprintf("[2001:db8::%d]:1", i)).write(t, "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		if err := at("198.51.100.7:1").write(t, "k", "v"); !errors.Is(err, ErrTooMany) {
			t.Errorf("sixth session of the site: %v, want ErrTooMany", err)
		}
		// The cap is on live sessions: an hour later there are none.
		before := len(f.keys(t))
		f.clock.advance(time.Hour + time.Second)
		if err := refused.write(t, "k", "v"); err != nil {
			t.Errorf("after the others ended: %v", err)
		}
		// Deleting one makes room too.
		for range 2 {
			if err := at("192.0.2.1:1").write(t, "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		r := refused.request()
		session := refused.Open(r, cookieName)
		session.Options.MaxAge = -1
		if err := refused.save(t, r, session); err != nil || refused.cookie != nil {
			t.Fatal(err, refused.cookie)
		}
		if err := at("192.0.2.1:1").write(t, "k", "v"); err != nil {
			t.Errorf("after a session was deleted: %v", err)
		}
		if before == 0 {
			t.Error("nothing was ever written")
		}
	})
}

func TestShortSessionDoesNotEndTheCountOfLongOnes(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		long, short := newBrowser(f.Site), newBrowser(f.Site)
		short.options.MaxAge = 60
		for _, b := range []*browser{long, short} {
			if err := b.write(t, "k", "v"); err != nil {
				t.Fatal(err)
			}
		}
		if ttl := f.r.client.PTTL(t.Context(), f.key(kindNew, "")).Val(); ttl < 59*time.Minute {
			t.Errorf("the count ends in %s", ttl)
		}
	})
}

func TestRoamingSessionCountsWhereItBegan(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		if err := b.write(t, "k", "v"); err != nil {
			t.Fatal(err)
		}
		keys := f.keys(t)
		for i := range 20 {
			b.addr = fmt.Sprintf("198.51.100.%d:1", i)
			if err := b.write(t, "k", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(keys, f.keys(t)); diff != "" {
			t.Errorf("one session fills the memory: %s", diff)
		}
	})
}

func TestAddressesOfOneNetworkCountTogether(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	b := newBrowser(f.Site)
	key := func(addr string) string {
		st := f.Sessions(sessions.Options{}, Limits{}, func(*http.Request) netip.Addr { return netip.MustParseAddr(addr) })
		return st.addressKey(b.request())
	}
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::ffff:1:2:3", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if same := key(test.a) == key(test.b); same != test.same {
			t.Errorf("%s and %s: same %v, want %v", test.a, test.b, same, test.same)
		}
	}
	b.addr = "@" // a Unix socket
	if got := b.addressKey(b.request()); !strings.HasSuffix(got, ":invalid IP") {
		t.Errorf("unknown address counts under %q", got)
	}
}

func TestDeletedSessionIsGone(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		if err := b.write(t, "k", "v"); err != nil {
			t.Fatal(err)
		}
		cookie := b.cookie
		r := b.request()
		session, err := b.Get(r, cookieName)
		if err != nil {
			t.Fatal(err)
		}
		session.Options.MaxAge = -1
		f.wantTrips(t, 1, func() {
			if err := b.save(t, r, session); err != nil || b.cookie != nil {
				t.Errorf("cookie %v, %v", b.cookie, err)
			}
		})
		if keys := f.keys(t); len(keys) != 0 {
			t.Errorf("left behind: %q", keys)
		}
		b.cookie = cookie
		if got := b.read(t); len(got) != 0 {
			t.Errorf("the old cookie still reads %v", got)
		}
	})
}

func TestSessionWithoutFieldsLeavesNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		if err := b.write(t, "k", "v"); err != nil {
			t.Fatal(err)
		}
		r := b.request()
		session, err := b.Get(r, cookieName)
		if err != nil {
			t.Fatal(err)
		}
		delete(session.Values, "k")
		if err := b.save(t, r, session); err != nil {
			t.Fatal(err)
		}
		if keys := f.keys(t); len(keys) != 0 {
			t.Errorf("left behind: %q", keys)
		}
	})
}

func TestSaveRepeatedAfterALostAnswerBeginsOneSession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		fresh := f.sessionKey(random(40))
		for range 2 {
			keys, args := f.charged([]string{f.sessionKey("dead"), fresh, f.key(kindNew, ""), f.key(kindNewFrom, "x")},
				[]any{micros(f.clock.now()), micros(f.clock.now().Add(time.Hour)), 3600000, 16, 1, 1, 1},
				[]Charge{PerAddress(netip.MustParseAddr("192.0.2.1"), hourly(2))})
			used, err := verdict(scriptSave.Run(t.Context(), f.r.client, keys, append(args, "jump:k", "9999999999999999 v")...), nil)
			if err != nil || used != 2 {
				t.Fatalf("answer %d, %v", used, err)
			}
		}
		if n := f.r.client.ZCard(t.Context(), f.key(kindNew, "")).Val(); n != 1 {
			t.Errorf("%d sessions counted", n)
		}
	})
}

func TestOnlyStringsOfSensibleSizeAreStored(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	many := map[any]any{}
	for i := range maxFields + 1 {
		many[fmt.Sprint(i)] = "v"
	}
	for name, values := range map[string]map[any]any{
		"a number as key":   {1: "v"},
		"a number as value": {"k": 1},
		"a flash":           {"_flash": []any{"hello"}},
		"an empty key":      {"": "v"},
		"a long key":        {strings.Repeat("k", maxFieldName+1): "v"},
		"a long value":      {"k": strings.Repeat("v", maxField+1)},
		"too many":          many,
	} {
		b := newBrowser(f.Site)
		r := b.request()
		session := b.Open(r, cookieName)
		session.Values = values
		f.wantTrips(t, 0, func() {
			if err := b.save(t, r, session); err == nil || b.cookie != nil {
				t.Errorf("%s: saved", name)
			}
		})
	}
}
