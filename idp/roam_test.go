package idp_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/moodle"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

// somebody is an identity source for which all sessions are one user's.
type somebody gateway.Identity

func (s somebody) Identity(context.Context, moodle.Browser) (gateway.Identity, error) {
	return gateway.Identity(s), nil
}

// remote is bob, whose home has the id n in mnet_host.
func remote(n int64) somebody {
	bob := ada
	bob.Username, bob.MnetHostID, bob.Auth = "bob", n, "mnet"
	return somebody{User: bob, Remote: true}
}

// with returns the home with other options.
func (h *home) with(change func(*idp.Options)) *home {
	o := h.Options
	change(&o)
	h.Provider = idp.New(o)
	return h
}

func userList(t testing.TB, entries ...string) *gateway.UserList {
	t.Helper()
	u, err := gateway.NewUserList(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func moodlePeer(t testing.TB, name string, id int, change func(*gateway.Peer)) *gateway.Peer {
	t.Helper()
	p := &gateway.Peer{
		Wwwroot: wwwroot(t, name), HostID: id, Application: gateway.Moodle,
		Publish: []string{gateway.ServiceSSOIDP}, Subscribe: []string{gateway.ServiceSSOSP},
	}
	if change != nil {
		change(p)
	}
	return p
}

func list(t testing.TB, peers ...*gateway.Peer) *gateway.Allowlist {
	t.Helper()
	l, err := gateway.NewAllowlist(peers...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhoMayRoam(t *testing.T) {
	nobody := gateway.Access{Allow: userList(t)}
	tests := []struct {
		name       string
		site, peer gateway.Access
		rule       gateway.Rule
	}{
		{"everybody", gateway.Access{}, gateway.Access{}, "path"},
		{"who is on both lists", gateway.Access{Allow: userList(t, "ada")}, gateway.Access{Allow: userList(t, "a*")}, "path"},
		{"not who the site denies", gateway.Access{Deny: userList(t, "ADA")}, gateway.Access{Allow: userList(t, "ada")}, "user-not-allowed"},
		{"not who the peer's list denies", gateway.Access{Allow: userList(t, "ada")}, gateway.Access{Deny: userList(t, "ada")}, "user-not-allowed"},
		{"nobody at all", nobody, gateway.Access{}, "user-not-allowed"},
		{"nobody to this peer", gateway.Access{}, nobody, "user-not-allowed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			change := func(o *idp.Options) {
				o.Roam = test.site
				o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, func(p *gateway.Peer) { p.Roam = test.peer }))
			}
			h := newHome(t, store.Limits{}).with(change)
			a := h.jump(browser{"MoodleSession": adas}, "/x")
			if a.Rule != test.rule || a.Landing != (test.rule == "path") || a.Username != "ada" {
				t.Errorf("a jump: %+v", a)
			}
			if a.Refused && h.trips.n.Load() != 0 {
				t.Errorf("a refusal cost %d round trips", h.trips.n.Load())
			}

			// The same after a login, which the lists do not keep from beginning.
			h = newHome(t, store.Limits{}).with(change)
			b := browser{"MoodleSession": anonymous}
			if a := h.jump(b, "/x"); a.Refused || a.Landing {
				t.Fatalf("an anonymous jump: %+v", a)
			}
			a, done := h.answer(b, b.request("POST", "https://home.test/moodle/login/index.php"), 303, redirect("MoodleSession="+adas))
			if !done || a.Rule != test.rule || a.Landing != (test.rule == "path") {
				t.Errorf("a login: %+v", a)
			}
			if _, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); done {
				t.Error("a jump was left")
			}
		})
	}
}

func TestAHubSendsRemoteLearnersHome(t *testing.T) {
	// What the hub's peers are; bob's home has the id 7.
	peers := func(change func(*gateway.Peer)) []*gateway.Peer {
		return []*gateway.Peer{moodlePeer(t, "https://sp.test", 3, nil), moodlePeer(t, "https://bobs.test/moodle", 7, change)}
	}
	const sent = "https://bobs.test/moodle/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx%3Fa%3D1%26b%3D2%23p3&hub=1"
	tests := []struct {
		name     string
		who      somebody
		home     func(*gateway.Peer)
		query    string
		rule     gateway.Rule
		location string
	}{
		{"to the jump of the home", remote(7), nil, "hostid=3", "path", sent},
		{"under the canonical names", remote(7), func(p *gateway.Peer) { p.Aliases = []gateway.Wwwroot{wwwroot(t, "http://bobs.test")} }, "hostwwwroot=SP.test/", "path", sent},
		{"straight to a page of the home itself", remote(7), nil, "hostid=7", "path", "https://bobs.test/moodle/x?a=1&b=2#p3"},
		{"unless the home is no peer", remote(8), nil, "hostid=3", "user-remote", ""},
		{"unless the home is switched off", remote(7), func(p *gateway.Peer) { p.Off = true }, "hostid=3", "user-remote", ""},
		{"unless the home's last day is over", remote(7), func(p *gateway.Peer) { p.Expires = time.Now() }, "hostid=3", "user-remote", ""},
		{"nor to a page of such a home", remote(7), func(p *gateway.Peer) { p.Off = true }, "hostid=7", "peer-off", ""},
		{"unless the home is not known", remote(0), nil, "hostid=3", "user-remote", ""},
		{"unless the user is not let in", remote(7), func(p *gateway.Peer) { p.Access.Deny = userList(t, "bob") }, "hostid=3", "user-access", ""},
		{"not even to their home then", remote(7), func(p *gateway.Peer) { p.Access.Allow = userList(t, "eve") }, "hostid=7", "user-access", ""},
		{"whatever the lists say about leaving", remote(7), func(p *gateway.Peer) { p.Roam.Deny = userList(t, "*") }, "hostid=3", "path", sent},
		{"unless the home is a Mahara, whose jump wants its own numbers", remote(7), func(p *gateway.Peer) { p.Application = gateway.Mahara }, "hostid=3", "user-remote", ""},
		{"unless a hub has sent them here as to their home", remote(7), nil, "hostid=3&hub=1", "user-remote", ""},
		{"a suspended one stays", func() somebody { s := remote(7); s.User.Suspended = true; return s }(), nil, "hostid=3", "user-suspended", ""},
		{"nobody is vouched for as somebody else", func() somebody { s := remote(7); s.LoginAs = true; return s }(), nil, "hostid=3", "user-login-as", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHome(t, store.Limits{}).with(func(o *idp.Options) { o.Source, o.Peers = test.who, list(t, peers(test.home)...) })
			r := browser{"MoodleSession": adas}.request("GET", "https://home.test/moodle/auth/mnet/jump.php?"+test.query+"&wantsurl="+url.QueryEscape("/x?a=1&b=2#p3"))
			a := h.Jump(httptest.NewRecorder(), r)
			if a.Rule != test.rule || a.Location != test.location || a.Refused != (test.location == "") || a.Landing {
				t.Errorf("%+v", a)
			}
			if (a.Outcome == idp.OutcomeHome) != !a.Refused {
				t.Errorf("outcome %q", a.Outcome)
			}
			if h.trips.n.Load() != 0 {
				t.Errorf("%d round trips: something was minted", h.trips.n.Load())
			}
		})
	}
}

// TestAHubSendsHomeWhomItTookIn is about accounts that the hub has made itself,
// which for its Moodle are its own.
func TestAHubSendsHomeWhomItTookIn(t *testing.T) {
	const sent = "https://bobs.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx&hub=1"
	took := remote(3) // which is no id of a home here
	took.User.Auth, took.User.Username = "made", "bob@bobs.test"
	for name, test := range map[string]struct {
		who      somebody
		home     func(*gateway.Peer)
		unknown  bool // the account is nobody's at any peer
		query    string
		rule     gateway.Rule
		location string
	}{
		"to the jump of the home":                     {who: took, query: "hostwwwroot=https://sp.test", rule: "path", location: sent},
		"straight to a page of the home itself":       {who: took, query: "hostwwwroot=https://bobs.test", rule: "path", location: "https://bobs.test/x"},
		"as the list of that home calls them":         {who: took, home: func(p *gateway.Peer) { p.Access.Deny = userList(t, "bob") }, query: "hostwwwroot=https://sp.test", rule: "user-access"},
		"and not as the site does":                    {who: took, home: func(p *gateway.Peer) { p.Access.Deny = userList(t, "bob@bobs.test") }, query: "hostwwwroot=https://sp.test", rule: "path", location: sent},
		"unless the home is switched off":             {who: took, home: func(p *gateway.Peer) { p.Off = true }, query: "hostwwwroot=https://sp.test", rule: "user-remote"},
		"unless the home's last day is over":          {who: took, home: func(p *gateway.Peer) { p.Expires = time.Now() }, query: "hostwwwroot=https://sp.test", rule: "user-remote"},
		"unless the home is no peer, whatever its id": {who: took, unknown: true, query: "hostwwwroot=https://sp.test", rule: "user-remote"},
		"unless a hub has sent them here":             {who: took, query: "hostwwwroot=https://sp.test&hub=1", rule: "user-remote"},
		"and whom Moodle knows as before":             {who: remote(7), query: "hostwwwroot=https://sp.test", rule: "path", location: sent},
	} {
		t.Run(name, func(t *testing.T) {
			bobs := moodlePeer(t, "https://bobs.test", 7, test.home)
			h := newHome(t, store.Limits{}).with(func(o *idp.Options) {
				o.Source, o.Peers = test.who, list(t, moodlePeer(t, "https://sp.test", 3, nil), bobs)
				o.HomeOf = func(u gateway.User) (*gateway.Peer, string, bool) {
					switch {
					case u.Auth != "made":
						return nil, "", false
					case test.unknown:
						return nil, "", true
					}
					return bobs, strings.TrimSuffix(u.Username, "@bobs.test"), true
				}
			})
			r := browser{"MoodleSession": adas}.request("GET", "https://home.test/moodle/auth/mnet/jump.php?"+test.query+"&wantsurl=/x")
			a := h.Jump(httptest.NewRecorder(), r)
			if a.Rule != test.rule || a.Location != test.location || a.Refused != (test.location == "") || a.Landing {
				t.Errorf("%+v", a)
			}
			if h.trips.n.Load() != 0 {
				t.Errorf("%d round trips", h.trips.n.Load())
			}
		})
	}
}

func TestAHubSendsWhoLogsInFromElsewhereHome(t *testing.T) {
	h := newHome(t, store.Limits{}).with(func(o *idp.Options) {
		o.Source = remote(7)
		o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, nil), moodlePeer(t, "https://bobs.test", 7, nil))
	})
	b := browser{} // no session yet
	if a := h.jump(b, "/x"); a.Refused || a.Location == "" {
		t.Fatalf("%+v", a)
	}
	// They choose their home on the login page, and land from there.
	a, done := h.answer(b, b.request("GET", "https://home.test/moodle/auth/mnet/land.php?token=x"), 303, redirect("MoodleSession="+adas))
	if !done || a.Outcome != idp.OutcomeHome || !strings.HasPrefix(a.Location, "https://bobs.test/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&") {
		t.Fatalf("%+v", a)
	}
	if _, done := h.answer(b, b.request("GET", "https://home.test/moodle/my/"), 200, page()); done {
		t.Error("the jump is still pending")
	}
}

// TestTwoHubsDoNotPlayBall follows a browser that is bob of the second hub at
// the first, and ada of the first hub at the second: each takes the other for
// the home.
func TestTwoHubsDoNotPlayBall(t *testing.T) {
	hub := func(other string) *home {
		return newHome(t, store.Limits{}).with(func(o *idp.Options) {
			o.Source = remote(7)
			o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, nil), moodlePeer(t, other, 7, nil))
		})
	}
	first, second := hub("https://second.test"), hub("https://first.test")
	b := browser{"MoodleSession": adas}
	a := first.Jump(httptest.NewRecorder(), b.request("GET", "https://first.test/auth/mnet/jump.php?hostid=3&wantsurl=/x"))
	if !strings.HasPrefix(a.Location, "https://second.test/auth/mnet/jump.php?") {
		t.Fatalf("%+v", a)
	}
	a = second.Jump(httptest.NewRecorder(), b.request("GET", a.Location))
	if !a.Refused || a.Rule != gateway.RuleUserRemote || a.Home.Wwwroot.String() != "https://first.test" {
		t.Errorf("the second hub: %+v", a)
	}
	// Under an alias of the second hub nothing is forgotten.
	a = second.Forward(b.request("GET", "http://old.test/auth/mnet/jump.php?hostid=3&hub=1"))
	if !strings.HasSuffix(a.Location, gateway.FromHub) {
		t.Errorf("forwarded: %+v", a)
	}
}

func TestAHomeVouchesForItsOwnWhomAHubSends(t *testing.T) {
	h := newHome(t, store.Limits{})
	a := h.Jump(httptest.NewRecorder(), browser{"MoodleSession": adas}.request("GET",
		"https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fx&hub=1"))
	if _, wantsurl := landing(t, a); wantsurl != "/x" {
		t.Errorf("wantsurl %q", wantsurl)
	}
}

func TestAPeerLearnsWhatItsListSays(t *testing.T) {
	full := ada
	full.Country, full.Lang, full.Description, full.Picture = "GB", "en", "", "5"
	for _, test := range []struct {
		name   string
		export []string
		want   string
	}{
		{"Moodle's default", nil, "auth username firstname lastname email city country lang picture wwwroot session.gc_maxlifetime _mnet_userpicture_timemodified _mnet_userpicture_mimetype myhosts"},
		{"a few fields", []string{"lang", "city", "picture"}, "auth username firstname lastname email city lang picture wwwroot session.gc_maxlifetime _mnet_userpicture_timemodified _mnet_userpicture_mimetype myhosts"},
		{"no picture", []string{"lang", "city"}, "auth username firstname lastname email city lang wwwroot session.gc_maxlifetime myhosts"},
		{"no more than it must", []string{}, "auth username firstname lastname email wwwroot session.gc_maxlifetime myhosts"},
	} {
		h := newHome(t, store.Limits{}).with(func(o *idp.Options) {
			o.Source = somebody{User: full}
			o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, func(p *gateway.Peer) { p.Export = test.export }))
		})
		token, _ := landing(t, h.jump(browser{"MoodleSession": adas}, "/x"))
		v, err := h.redeem(t, "https://sp.test", token, firefox, 1)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range v.(mnet.Struct) {
			names = append(names, m.Name)
		}
		if diff := cmp.Diff(strings.Fields(test.want), names); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestAPeerThatHasMovedGoesOnUnderItsOldName(t *testing.T) {
	h := newHome(t, store.Limits{}).with(func(o *idp.Options) { o.Peers = list(t, moodlePeer(t, "http://sp.test", 3, nil)) })
	jump := func(b browser, wantsurl string) idp.Answer {
		w := httptest.NewRecorder()
		a := h.Jump(w, b.request("GET", "https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=http://sp.test&wantsurl="+wantsurl))
		b.keep(w.Header())
		return a
	}
	loggedIn, waiting := browser{"MoodleSession": adas}, browser{"MoodleSession": anonymous}
	before, _, _ := strings.Cut(strings.TrimPrefix(jump(loggedIn, "/x").Location, "http://sp.test/auth/mnet/land.php?token="), "&")
	jump(waiting, "/y")

	h.with(func(o *idp.Options) {
		o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, func(p *gateway.Peer) { p.Aliases = []gateway.Wwwroot{wwwroot(t, "http://sp.test")} }))
	})
	if _, err := h.redeem(t, "http://sp.test", before, firefox, 1); err != nil {
		t.Errorf("a token from before: %v", err)
	}
	token, wantsurl := landing(t, jump(loggedIn, "http://sp.test/x")) // at https://sp.test
	if wantsurl != "/x" {
		t.Errorf("an old link: wantsurl %q", wantsurl)
	}
	if _, err := h.redeem(t, "http://sp.test", token, firefox, 2); err != nil {
		t.Errorf("redeemed under the alias: %v", err)
	}
	a, done := h.answer(waiting, waiting.request("POST", "https://home.test/moodle/login/index.php"), 303, redirect("MoodleSession="+adas))
	if _, wantsurl := landing(t, a); !done || wantsurl != "/y" {
		t.Errorf("a jump that waited: %+v", a)
	}
}

func TestALinkToTheSiteItselfLeadsToItsPage(t *testing.T) {
	for _, test := range []struct {
		name, query string
		rule        gateway.Rule
		location    string
	}{
		{"by its wwwroot", "hostwwwroot=https://home.test/moodle&wantsurl=/x%23p1", "path", "https://home.test/moodle/x#p1"},
		{"by an alias", "hostwwwroot=http://forum.test&wantsurl=/x", "path", "https://home.test/moodle/x"},
		{"with the alias in the page too", "hostwwwroot=forum.test&wantsurl=http://forum.test/x", "peer-url", "https://home.test/moodle/x"},
		{"with an id that means none", "hostwwwroot=forum.test&hostid=0", "empty", "https://home.test/moodle/"},
		{"but nowhere else", "hostwwwroot=forum.test&wantsurl=//evil.test", "scheme-relative", ""},
		{"nor below it", "hostwwwroot=forum.test&wantsurl=/../x", "outside-path", ""},
		{"nor if another peer is meant", "hostwwwroot=forum.test&hostid=3", "peer-unknown", ""},
	} {
		h := newHome(t, store.Limits{}).with(func(o *idp.Options) { o.Aliases = []gateway.Wwwroot{wwwroot(t, "http://forum.test")} })
		for _, session := range []string{adas, "", broken} {
			a := h.Jump(httptest.NewRecorder(), browser{"MoodleSession": session}.request("GET", "https://home.test/moodle/auth/mnet/jump.php?"+test.query))
			if a.Rule != test.rule || a.Location != test.location || a.Err != nil || a.Refused != (test.location == "") {
				t.Errorf("%s: %+v", test.name, a)
			}
		}
		if h.source.asked.Load() != 0 || h.trips.n.Load() != 0 {
			t.Errorf("%s: somebody was asked", test.name)
		}
	}
}

func TestForward(t *testing.T) {
	for _, test := range []struct {
		name, query string
		rule        gateway.Rule
		location    string
	}{
		{"a link goes on, written anew", "x=1&hostid=3&wantsurl=https://sp.test/a%2520b%3Fc=1%26amp;d=2%23p3", "peer-url",
			"https://home.test/moodle/auth/mnet/jump.php?hostwwwroot=https%3A%2F%2Fsp.test&wantsurl=%2Fa%2520b%3Fc%3D1%26d%3D2%23p3"},
		{"a refused one does not", "hostid=3&wantsurl=//evil.test", "scheme-relative", ""},
		{"nor one to nobody", "hostwwwroot=evil.test", "peer-unknown", ""},
		{"nor one that says things twice", "hostid=3&hostid=3", "repeated", ""},
		{"one to the site itself goes there at once", "hostwwwroot=https://home.test/moodle&wantsurl=/x", "path", "https://home.test/moodle/x"},
	} {
		h := newHome(t, store.Limits{})
		a := h.Forward(browser{"MoodleSession": broken}.request("GET", "http://old.test/auth/mnet/jump.php?"+test.query))
		if a.Rule != test.rule || a.Location != test.location || a.Refused != (test.location == "") || a.Err != nil {
			t.Errorf("%s: %+v", test.name, a)
		}
		if !a.Refused && a.Outcome == idp.OutcomeMoved {
			q, _ := gateway.ParseQuery(a.Location[strings.IndexByte(a.Location, '?')+1:])
			if again := gateway.Decide(h.Peers, q, time.Now()); !again.Allow || again.Target != a.Target {
				t.Errorf("%s: decided again: %+v", test.name, again)
			}
		}
	}
}

func TestAPictureThatIsNotExportedIsNotHandedOut(t *testing.T) {
	h := newHome(t, store.Limits{})
	h.visit(t, "ada", "10")
	h.with(func(o *idp.Options) {
		o.Behind, _ = pictures(t, 500) // which says so if it is asked
		o.Peers = list(t, moodlePeer(t, "https://sp.test", 3, func(p *gateway.Peer) { p.Export = []string{"city"} }))
	})
	if v, _, err := h.call(t, "sp.test", "fetch_user_image", "ada"); cmp.Diff(mnet.Value(mnet.Array{}), v) != "" || err != nil {
		t.Errorf("%v, %v", v, err)
	}
}

func TestTheListsCountForLoginsAtAProviderToo(t *testing.T) {
	c := newCollege(t)
	c.with(func(o *idp.Options) { o.Roam.Deny = userList(t, "ada") })
	b := browser{}
	if a, _ := c.comeBack(b, c.login(t, c.jump(b, "/x"))); a.Rule != gateway.RuleUserNotAllowed || !a.Refused || a.Location != "" || a.Username != "ada" {
		t.Errorf("the callback: %+v", a)
	}
	if a := c.jump(b, "/x"); a.Rule != gateway.RuleUserNotAllowed || a.Location != "" {
		t.Errorf("the login that lasts: %+v", a)
	}
}
