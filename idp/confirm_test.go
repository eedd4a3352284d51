package idp_test

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/idp"
)

func TestALearnerWhoSaysYesLandsOnceAndIsNotAskedAgain(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	b := browser{"MoodleSession": adas}
	a := h.click(b, crossSite, "")
	if became(a) != asked || a.Confirm.Name != "Ada Lovelace" || a.Target.URL() != "https://sp.test/x" {
		t.Fatalf("%+v", a)
	}
	before := h.trips.n.Load()
	said := h.press(b, a.Confirm.Ticket)
	if _, wantsurl := landing(t, said); wantsurl != "/x" || said.Origin != crossSite {
		t.Errorf("%+v", said)
	}
	if n := h.trips.n.Load() - before; n != 2 {
		t.Errorf("%d round trips", n)
	}
	again := h.press(b, a.Confirm.Ticket)
	if became(again) != asked || again.Confirm.Ticket == a.Confirm.Ticket {
		t.Fatalf("pressed twice: %+v", again)
	}
	if a := h.press(b, again.Confirm.Ticket); became(a) != lands {
		t.Errorf("asked again: %+v", a)
	}

	before = h.trips.n.Load()
	if a := h.click(b, crossSite, ""); became(a) != lands || h.trips.n.Load()-before != 1 {
		t.Errorf("the next click: %+v, %d round trips", a, h.trips.n.Load()-before)
	}
	bob := ada
	bob.Username = "bob"
	if a := h.with(func(o *idp.Options) { o.Source = somebody{User: bob} }).click(b, crossSite, ""); became(a) != asked {
		t.Errorf("somebody else in that browser: %+v", a)
	}
	h.with(func(o *idp.Options) { o.Source = h.source })
	r := b.request("GET", "https://home.test/moodle/auth/mnet/jump.php?hostid=4&wantsurl=/x")
	if a := h.Jump(httptest.NewRecorder(), r); became(a) != asked {
		t.Errorf("another peer: %+v", a)
	}
	h.now = h.now.Add(idp.ConfirmedLife)
	if a := h.click(b, crossSite, ""); became(a) != asked {
		t.Errorf("a month later: %+v", a)
	}
}

func TestABrowserRemembersSeveralPeersAndNotTooMany(t *testing.T) {
	var peers []*gateway.Peer
	for i := range 60 {
		peers = append(peers, moodlePeer(t, "https://sp.test/"+strings.Repeat("x", i+1), i+3, nil))
	}
	h := careful(t, gateway.UnsignedConfirm, false, func(o *idp.Options) { o.Peers = list(t, peers...) })
	b := browser{"MoodleSession": adas}
	for _, peer := range peers {
		r := b.request("GET", h.Site.String()+"/auth/mnet/jump.php?hostwwwroot="+peer.Wwwroot.String())
		a := h.Jump(httptest.NewRecorder(), r)
		if became(a) != asked {
			t.Fatalf("%s: %+v", peer.Wwwroot, a)
		}
		if a := h.press(b, a.Confirm.Ticket); became(a) != lands {
			t.Fatalf("%s: %+v", peer.Wwwroot, a)
		}
	}
	for name, value := range b {
		if len(name)+len(value) > 2048 {
			t.Errorf("the cookie %s has %d bytes", name, len(value))
		}
	}
	last := peers[len(peers)-1]
	r := b.request("GET", h.Site.String()+"/auth/mnet/jump.php?hostwwwroot="+last.Wwwroot.String())
	if a := h.Jump(httptest.NewRecorder(), r); became(a) != lands {
		t.Errorf("the last one: %+v", a)
	}
}

func TestAnAnswerThatTheLearnerDidNotGive(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(h *home, b browser, ticket *string) []string // returns headers
		want   string
	}{
		{"their own", func(*home, browser, *string) []string { return nil }, lands},
		{"in a browser that only tells its Origin", func(*home, browser, *string) []string {
			return []string{"Sec-Fetch-Site", "", "Origin", "https://home.test"}
		}, lands},
		{"in a frame", func(*home, browser, *string) []string { return []string{"Sec-Fetch-Dest", "iframe"} }, "not-navigation"},
		{"a script's", func(*home, browser, *string) []string { return []string{"X-Requested-With", "XMLHttpRequest"} }, "not-navigation"},
		{"nothing", func(_ *home, _ browser, ticket *string) []string { *ticket = ""; return nil }, "confirm-over"},
		{"a made up one", func(_ *home, _ browser, ticket *string) []string { *ticket = strings.Repeat("A", 200); return nil }, "confirm-over"},
		{"one in another order", func(_ *home, _ browser, ticket *string) []string { *ticket = (*ticket)[1:] + (*ticket)[:1]; return nil }, "confirm-over"},
		{"20 KB", func(_ *home, _ browser, ticket *string) []string { *ticket += strings.Repeat("A", 20<<10); return nil }, "confirm-over"},
		{"that of an anonymous browser", func(_ *home, b browser, _ *string) []string { b["MoodleSession"] = anonymous; return nil }, "confirm-over"},
		{"that of a browser without a session", func(_ *home, b browser, _ *string) []string { delete(b, "MoodleSession"); return nil }, "confirm-over"},
		{"from the learner's other session", func(h *home, b browser, _ *string) []string {
			h.with(func(o *idp.Options) { o.Source = somebody{User: ada} })
			b["MoodleSession"] = anonymous
			return nil
		}, "confirm-over"},
		{"after somebody else has taken the session over", func(h *home, _ browser, _ *string) []string {
			bob := ada
			bob.Username = "bob"
			h.with(func(o *idp.Options) { o.Source = somebody{User: bob} })
			return nil
		}, "confirm-over"},
		{"too late", func(h *home, _ browser, _ *string) []string { h.now = h.now.Add(15 * time.Minute); return nil }, "confirm-over"},
		{"after the peer has gone", func(h *home, _ browser, _ *string) []string {
			h.with(func(o *idp.Options) { o.Peers = list(t, moodlePeer(t, "https://other.test", 4, nil)) })
			return nil
		}, "peer-unknown"},
		{"after the learner was suspended", func(h *home, _ browser, _ *string) []string {
			gone := ada
			gone.Suspended = true
			h.with(func(o *idp.Options) { o.Source = somebody{User: gone} })
			return nil
		}, "user-suspended"},
		{"after the site has become stricter", func(h *home, _ browser, _ *string) []string {
			h.with(func(o *idp.Options) { o.Unsigned = gateway.UnsignedRefuse })
			return nil
		}, "unsigned"},
	} {
		h := careful(t, gateway.UnsignedConfirm, false)
		b := browser{"MoodleSession": adas}
		a := h.click(b, crossSite, "")
		if became(a) != asked {
			t.Fatalf("%+v", a)
		}
		ticket := a.Confirm.Ticket
		header := test.change(h, b, &ticket)
		a = h.press(b, ticket, header...)
		if got := became(a); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestTheCookieThatRemembersIsNotATicket(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	b := browser{"MoodleSession": adas}
	a := h.click(b, crossSite, "")
	h.press(b, a.Confirm.Ticket)
	name := h.Site.CookieName("confirmed")
	if a := h.press(b, b[name]); became(a) != "confirm-over" {
		t.Errorf("%+v", a)
	}
	b[name] = a.Confirm.Ticket
	if a := h.click(b, crossSite, ""); became(a) != asked {
		t.Errorf("%+v", a)
	}
	if name := h.Site.CookieName("confirmed"); !strings.HasPrefix(name, "__Host-"+gateway.CookiePrefix) {
		t.Errorf("the cookie %s may reach the Moodle behind", name)
	}
}

func TestWithoutRedisNobodyIsTakenAtTheirWord(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	b := browser{"MoodleSession": adas}
	a := h.click(b, crossSite, "")
	h.redis.Close()
	if a := h.press(b, a.Confirm.Ticket); a.Err == nil || a.Location != "" {
		t.Errorf("%+v", a)
	}
}
