package idp_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/link"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

const (
	crossSite = gateway.OriginCross
	own       = gateway.OriginOwn
)

// forumKey is the key of https://sp.test.
var forumKey = sync.OnceValue(func() *mnet.Key {
	site, err := gateway.ParseWwwroot("https://sp.test")
	if err != nil {
		panic(err)
	}
	key, err := mnet.NewKey(site, time.Now(), time.Hour)
	if err != nil {
		panic(err)
	}
	return key
})

// careful is a home with something to say about unsigned jumps.
func careful(t testing.TB, unsigned gateway.Unsigned, required bool, change ...func(*idp.Options)) *home {
	t.Helper()
	return newHome(t, store.Limits{}, func(h *home, o *idp.Options) {
		o.Unsigned, o.Now = unsigned, func() time.Time { return h.now }
		o.Confirmations = func() [][32]byte { return [][32]byte{{2}} }
		o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, func(p *gateway.Peer) { p.RequireSigned = required }), moodlePeer(t, "https://other.test", 4, nil))
		o.Links = &link.Verifier{
			Site: o.Site, MaxLife: 24 * time.Hour, Now: o.Now,
			Certificates: func(context.Context, *gateway.Peer) ([]*gateway.Certificate, error) {
				return []*gateway.Certificate{forumKey().Certificate()}, nil
			},
			Refresh: func(context.Context, *gateway.Peer, *gateway.Certificate) (*gateway.Certificate, error) {
				return nil, nil
			},
		}
		for _, c := range change {
			c(o)
		}
	})
}

// token signs a link to /x for a user, or for everybody.
func (h *home) token(t testing.TB, username string) string {
	t.Helper()
	peer := h.Peers.FindID(3)
	page, _ := gateway.ParseTarget(peer, "/x")
	token, _, err := link.Sign(forumKey(), link.Link{Site: peer.Wwwroot, Home: h.Site, Page: page, Username: username, Expires: h.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// click follows a link to /x from somewhere.
func (h *home) click(b browser, from gateway.Origin, token string) idp.Answer {
	target := "https://home.test/moodle/auth/mnet/jump.php?hostid=3&wantsurl=/x"
	if token != "" {
		target = gateway.Signed(target, token)
	}
	r := b.request("GET", target)
	if from != "" {
		r.Header.Set("Sec-Fetch-Site", string(from))
	}
	w := httptest.NewRecorder()
	a := h.Jump(w, r)
	b.keep(w.Header())
	return a
}

// press answers the question of an Answer.
func (h *home) press(b browser, ticket string, header ...string) idp.Answer {
	r := b.request("POST", "https://home.test/moodle/jumpgate/confirm")
	form := httptest.NewRequest("POST", "/", strings.NewReader(url.Values{"jump": {ticket}}.Encode()))
	r.Body = form.Body
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a := h.Confirm(w, r)
	b.keep(w.Header())
	return a
}

// What may become of a click, besides a rule.
const lands, asked = "lands", "asks"

func became(a idp.Answer) string {
	switch {
	case a.Err != nil:
		return a.Err.Error()
	case a.Refused:
		return string(a.Rule)
	case a.Confirm != nil:
		return asked
	case a.Landing:
		return lands
	}
	return a.Location
}

func TestWhatBecomesOfUnsignedJumps(t *testing.T) {
	const allow, confirm, refuse = gateway.UnsignedAllow, gateway.UnsignedConfirm, gateway.UnsignedRefuse
	for _, test := range []struct {
		name     string
		unsigned gateway.Unsigned
		required bool
		from     gateway.Origin
		link     string // none, broken, all, ada, bob, revoked
		want     string
		trips    int32
	}{
		{"nobody minds, a foreign page", allow, false, crossSite, "none", lands, 1},
		{"nobody minds, the own click", allow, false, own, "none", lands, 1},
		{"nobody minds, a broken signature", allow, false, crossSite, "broken", lands, 1},
		{"nobody minds, a good signature", allow, false, crossSite, "all", lands, 1},
		{"nobody minds, a revoked link", allow, false, crossSite, "revoked", lands, 1},
		{"without a word about it", "", false, crossSite, "none", lands, 1},

		{"asking, the own click", confirm, false, own, "none", lands, 1},
		{"asking, a neighbour's page", confirm, false, gateway.OriginNear, "none", lands, 1},
		{"asking, a mail program", confirm, false, gateway.OriginNone, "none", lands, 1},
		{"asking, a foreign page", confirm, false, crossSite, "none", asked, 0},
		{"asking, a browser that does not say", confirm, false, "", "none", asked, 0},
		{"asking, a broken signature", confirm, false, crossSite, "broken", asked, 0},
		{"asking, a link for everybody", confirm, false, crossSite, "all", asked, 0},
		{"asking, somebody else's link", confirm, false, crossSite, "bob", asked, 0},
		{"asking, the learner's own link", confirm, false, crossSite, "ada", lands, 2},
		{"asking, the learner's own link, revoked", confirm, false, crossSite, "revoked", asked, 1},

		{"refusing, the own click", refuse, false, own, "none", lands, 1},
		{"refusing, a foreign page", refuse, false, crossSite, "none", "unsigned", 0},
		{"refusing, a browser that does not say", refuse, false, "", "none", "unsigned", 0},
		{"refusing, a broken signature", refuse, false, crossSite, "broken", "signature-invalid", 0},
		{"refusing, a link for everybody", refuse, false, crossSite, "all", asked, 1},
		{"refusing, somebody else's link", refuse, false, crossSite, "bob", asked, 1},
		{"refusing, the learner's own link", refuse, false, crossSite, "ada", lands, 2},
		{"refusing, the learner's own link, revoked", refuse, false, crossSite, "revoked", "signature-revoked", 1},

		{"a peer that signs, the own click", allow, true, own, "none", "unsigned", 0},
		{"a peer that signs, a broken signature", allow, true, own, "broken", "signature-invalid", 0},
		{"a peer that signs, a link for everybody", allow, true, crossSite, "all", lands, 2},
		{"a peer that signs, a revoked link", allow, true, own, "revoked", "signature-revoked", 1},
		{"a peer that signs and a site that asks", confirm, true, crossSite, "none", "unsigned", 0},
		{"a peer that signs and a site that asks, a link for everybody", confirm, true, crossSite, "all", asked, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := careful(t, test.unsigned, test.required)
			token := ""
			switch test.link {
			case "none":
			case "all":
				token = h.token(t, "")
			case "broken":
				token = h.token(t, "ada")
				token = token[:len(token)-8] + "AAAAAAAA"
			case "revoked":
				token = h.token(t, "ada")
				id, until, err := link.Read(token)
				if err == nil {
					err = h.state.RevokeLink(t.Context(), id, until)
				}
				if err != nil {
					t.Fatal(err)
				}
			default:
				token = h.token(t, test.link)
			}

			before := h.trips.n.Load()
			a := h.click(browser{"MoodleSession": adas}, test.from, token)
			if got := became(a); got != test.want || h.trips.n.Load()-before != test.trips {
				t.Errorf("logged in: %s, want %s; %d round trips, want %d", got, test.want, h.trips.n.Load()-before, test.trips)
			}
			if want := test.from; want != "" && a.Origin != want || want == "" && a.Origin != crossSite {
				t.Errorf("origin %q", a.Origin)
			}
			if test.link == "broken" && a.Signature.Rule != gateway.RuleSignatureInvalid {
				t.Errorf("the record says %+v", a.Signature)
			}

			// The same after a login, to which what cannot change by it never leads.
			b := browser{"MoodleSession": anonymous}
			a = h.click(b, test.from, token)
			if a.Refused {
				if got := became(a); got != test.want {
					t.Errorf("anonymous: %s, want %s", got, test.want)
				}
				return
			}
			if !strings.HasPrefix(a.Location, "https://home.test/moodle/login/index.php?") || a.Landing {
				t.Fatalf("anonymous: %+v", a)
			}
			a, done := h.answer(b, b.request("POST", "https://home.test/moodle/login/index.php"), 303, redirect("MoodleSession="+adas))
			if got := became(a); !done || got != test.want {
				t.Errorf("after a login: %s, want %s", got, test.want)
			}
			if _, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); done {
				t.Error("after a login: the jump is still pending")
			}
		})
	}
}

func TestWhoeverMayNotJumpIsNotAsked(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	if a := h.click(browser{"MoodleSession": workers}, crossSite, ""); became(a) != "user-login-as" {
		t.Errorf("%+v", a)
	}
	h = careful(t, gateway.UnsignedConfirm, false, func(o *idp.Options) { o.Roam.Deny = userList(t, "ada") })
	if a := h.click(browser{"MoodleSession": adas}, crossSite, ""); became(a) != "user-not-allowed" {
		t.Errorf("%+v", a)
	}
	// A page of our own is no jump.
	h = careful(t, gateway.UnsignedRefuse, true)
	r := browser{}.request("GET", "https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=https://home.test/moodle&wantsurl=/x")
	if a := h.Jump(httptest.NewRecorder(), r); a.Outcome != idp.OutcomeOwn {
		t.Errorf("%+v", a)
	}
}

// TestAnotherBrowsersJumpIsForeign names a jump that somebody has planted
// elsewhere, by a click of their own, to a learner who is logged in.
func TestAnotherBrowsersJumpIsForeign(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	mallory := browser{}
	planted := h.click(mallory, gateway.OriginNone, "").Location
	b := browser{"MoodleSession": anonymous}
	h.click(b, own, "") // she has a cookie of ours
	b["MoodleSession"] = adas
	r := b.request("GET", planted)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if a, done := h.answer(b, r, 200, page()); !done || became(a) != asked {
		t.Errorf("%v %+v", done, a)
	}
}

func TestUnderAnAliasTheSignatureGoesAlong(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	token := h.token(t, "ada")
	r := browser{}.request("GET", gateway.Signed("http://old.test/auth/mnet/jump.php?hostid=3&wantsurl=https://sp.test/x", token))
	a := h.Forward(r)
	_, query, _ := strings.Cut(a.Location, "?")
	q, rule := gateway.ParseQuery(query)
	if rule != gateway.RuleOK || q.Link != token || a.Origin != crossSite {
		t.Fatalf("%+v", a)
	}
	r = browser{"MoodleSession": adas}.request("GET", a.Location)
	if a := h.Jump(httptest.NewRecorder(), r); became(a) != lands {
		t.Errorf("%+v", a)
	}
}

func TestWithoutRedisASignatureIsNotTakenForGood(t *testing.T) {
	h := careful(t, gateway.UnsignedConfirm, false)
	token := h.token(t, "ada")
	h.redis.Close()
	if a := h.click(browser{"MoodleSession": adas}, crossSite, token); a.Err == nil || a.Location != "" {
		t.Errorf("%+v", a)
	}
}
