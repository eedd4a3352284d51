package store

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

// plant remembers a jump without reading the session first.
func (b *browser) plant(t *testing.T, wantsurl string) Jump {
	t.Helper()
	r := b.request()
	session := b.Open(r, cookieName)
	j, err := b.Plant(session, Jump{Peer: peer, Wantsurl: wantsurl})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.save(t, r, session); err != nil {
		t.Fatal(err)
	}
	return j
}

// jumps returns the wantsurls of the browser's jumps, newest first.
func (b *browser) jumps(t *testing.T) []string {
	t.Helper()
	session, err := b.Get(b.request(), cookieName)
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for _, j := range b.Jumps(session) {
		urls = append(urls, j.Wantsurl)
	}
	return urls
}

func TestJumpIsRememberedInOneRoundTrip(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		var planted [2]Jump
		for i := range planted {
			f.wantTrips(t, 1, func() { planted[i] = b.plant(t, fmt.Sprintf("/post?d=%d&x=ü#p34", i)) })
		}
		session, err := b.Get(b.request(), cookieName)
		if err != nil {
			t.Fatal(err)
		}
		want := []Jump{planted[1], planted[0]}
		if diff := cmp.Diff(want, b.Jumps(session), cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		if life := planted[0].Expires.Sub(planted[0].Planted); life != JumpLife {
			t.Errorf("a jump lives %s", life)
		}
	})
}

func TestOldestJumpMakesRoom(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		frozen := time.Now()
		f.r.now = func() time.Time { return frozen } // order does not hang on the clock
		b := newBrowser(f.Site)
		var want []string
		for i := range 20 {
			url := fmt.Sprintf("/%d", i)
			b.plant(t, url)
			if want = append([]string{url}, want...); len(want) > MaxJumps {
				want = want[:MaxJumps]
			}
		}
		if diff := cmp.Diff(want, b.jumps(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJumpEndsAfterItsTimeButTheSessionGoesOn(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		old := b.plant(t, "/old")
		f.clock.advance(10 * time.Minute)
		b.plant(t, "/new")
		f.clock.advance(5*time.Minute + time.Second)
		if diff := cmp.Diff([]string{"/new"}, b.jumps(t)); diff != "" {
			t.Error(diff)
		}
		_, won, err := f.Claim(t.Context(), b.cookie.Value, old.ID, "login", grant())
		if won || err != nil {
			t.Errorf("an expired jump is claimed: %v, %v", won, err)
		}
		b.plant(t, "/newest")
		for field := range b.read(t) {
			if field == fieldJump+old.ID {
				t.Error("the expired jump is still stored")
			}
		}
		if got := b.read(t)[fieldLogin]; got != "" {
			t.Errorf("login %q was honoured for nothing", got)
		}
	})
}

func TestClaimMintsATokenAndRemembersTheLogin(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		first, second := b.plant(t, "/1"), b.plant(t, "/2")
		var token string
		f.wantTrips(t, 1, func() {
			var won bool
			var err error
			token, won, err = f.Claim(t.Context(), b.cookie.Value, first.ID, "hash of the login", grant())
			if err != nil || !won || !wellFormed(token, 40) {
				t.Fatalf("token %q, won %v, %v", token, won, err)
			}
		})
		if g, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil || g.User.Username != "ada" || g.Peer != peer {
			t.Errorf("%+v, %v", g, err)
		}
		session, err := b.Get(b.request(), cookieName)
		if err != nil || HonouredLogin(session) != "hash of the login" {
			t.Errorf("honoured %q, %v", HonouredLogin(session), err)
		}
		if jumps := b.Jumps(session); len(jumps) != 1 || jumps[0].ID != second.ID {
			t.Errorf("jumps left: %v", jumps)
		}
		// The last jump gone, the login is still remembered, and not for ever.
		if _, won, err := f.Claim(t.Context(), b.cookie.Value, second.ID, "another", grant()); err != nil || !won {
			t.Fatal(won, err)
		}
		if ttl := f.r.client.PTTL(t.Context(), f.sessionKey(b.cookie.Value)).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("session ends in %s", ttl)
		}
		if got := b.read(t)[fieldLogin]; got != "another" {
			t.Errorf("honoured %q", got)
		}
	})
}

func TestClaimOfWhatIsNotThereWinsNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		j := b.plant(t, "/1")
		keys := f.keys(t)
		for _, test := range []struct{ name, session, jump string }{
			{"another browser's session", random(40), j.ID},
			{"no session", "", j.ID},
			{"a malformed session", "jump", j.ID},
			{"an unknown jump", b.cookie.Value, random(22)},
			{"a malformed jump", b.cookie.Value, "../" + j.ID},
		} {
			token, won, err := f.Claim(t.Context(), test.session, test.jump, "login", grant())
			if token != "" || won || err != nil {
				t.Errorf("%s: %q, %v, %v", test.name, token, won, err)
			}
		}
		if diff := cmp.Diff(keys, f.keys(t)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOfManyClaimsAtOnceOneWins(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		j := b.plant(t, "/1")
		sites := []*Site{f.Site, f.again()}
		tokens := make([]string, 16)
		var all sync.WaitGroup
		for i := range tokens {
			all.Go(func() {
				token, won, err := sites[i%2].Claim(t.Context(), b.cookie.Value, j.ID, fmt.Sprint(i), grant())
				if err != nil || won != (token != "") {
					t.Errorf("won %v with token %q, %v", won, token, err)
				}
				tokens[i] = token
			})
		}
		all.Wait()
		if got := strings.Join(tokens, ""); len(got) != 40 {
			t.Errorf("tokens won: %q", got)
		}
	})
}

func TestClaimRepeatedAfterALostAnswerStillWins(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		j := b.plant(t, "/1")
		for range 2 {
			keys, args := f.charged([]string{f.sessionKey(b.cookie.Value), f.tokenKey("t")},
				[]any{micros(f.clock.now()), fieldJump + j.ID, "login", "record", 60000}, []Charge{PerUser("ada", hourly(1))})
			won, err := verdict(scriptClaim.Run(t.Context(), f.r.client, keys, args...), nil)
			if err != nil || won != 1 {
				t.Fatal(won, err)
			}
		}
	})
}

func TestTwoTabsPlantAtOnceAndBothStay(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		b.plant(t, "/first")
		var tabs sync.WaitGroup
		for i := range 8 {
			tabs.Go(func() {
				tab := *b
				tab.plant(t, fmt.Sprintf("/%d", i))
				if tab.cookie.Value != b.cookie.Value {
					t.Error("the browser's session changed")
				}
			})
		}
		tabs.Wait()
		if got := b.jumps(t); len(got) != 9 {
			t.Errorf("jumps are %q", got)
		}
	})
}

func TestFloodWithoutCookiesPushesOutNothing(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		learner := limited(f.Site, Limits{PerAddress: 5, PerSite: 10})
		learner.plant(t, "/wanted")
		token, err := f.Mint(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for i := range 60 {
			attacker := limited(f.Site, Limits{PerAddress: 5, PerSite: 10})
			attacker.addr = fmt.Sprintf("203.0.113.%d:1", i%20)
			r := attacker.request()
			session := attacker.Open(r, cookieName)
			if _, err := attacker.Plant(session, Jump{Peer: peer, Wantsurl: "/flood"}); err != nil {
				t.Fatal(err)
			}
			if err := attacker.save(t, r, session); errors.Is(err, ErrTooMany) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused != 51 {
			t.Errorf("%d refused, want 51", refused)
		}
		if diff := cmp.Diff([]string{"/wanted"}, learner.jumps(t)); diff != "" {
			t.Error(diff)
		}
		if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
			t.Errorf("token: %v", err)
		}
	})
}

func TestJumpOfAbsurdSizeIsRefused(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	b := newBrowser(f.Site)
	session := b.Open(b.request(), cookieName)
	if _, err := b.Plant(session, Jump{Peer: peer, Wantsurl: strings.Repeat("x", maxWantsurl+1)}); err == nil {
		t.Error("a long wantsurl is planted")
	}
	if _, err := b.Plant(session, Jump{Wantsurl: "/"}); err == nil {
		t.Error("a jump to nowhere is planted")
	}
	if _, err := b.Plant(session, Jump{Peer: peer, Wantsurl: strings.Repeat("<", maxWantsurl)}); err != nil {
		t.Error(err)
	}
	if err := b.save(t, b.request(), session); err != nil {
		t.Errorf("the longest wantsurl that is allowed, escaped by JSON: %v", err)
	}
	if _, _, err := f.Claim(t.Context(), random(40), random(22), strings.Repeat("x", maxLogin+1), grant()); err == nil {
		t.Error("a long login is stored")
	}
}

func FuzzStoredJumpNeverPanics(f *testing.F) {
	f.Add("1 {}")
	f.Add(`1900000000000000 {"peer":"https://forum.example","wantsurl":"/","expires":"2030-01-01T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		if j, err := parseJump("id", text); err == nil && j.ID != "id" {
			t.Errorf("%q changes the ID to %q", text, j.ID)
		}
	})
}

func TestScriptIsSentAgainToARedisThatForgotIt(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		if err := f.r.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		b := newBrowser(f.Site)
		b.plant(t, "/1")
		if n, err := scriptSave.Exists(t.Context(), f.r.client).Result(); err != nil || !n[0] {
			t.Errorf("script is known: %v, %v", n, err)
		}
	})
}

func TestDroppedJumpIsGoneAndItsLoginHonoured(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		b.plant(t, "/kept")
		dropped := b.plant(t, "/dropped")
		r := b.request()
		session, err := b.Get(r, cookieName)
		if err != nil {
			t.Fatal(err)
		}
		Drop(session, dropped, "login")
		if err := b.save(t, r, session); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"/kept"}, b.jumps(t)); diff != "" {
			t.Error(diff)
		}
		if got := b.read(t)[fieldLogin]; got != "login" {
			t.Errorf("honoured %q", got)
		}
		if _, won, err := f.Claim(t.Context(), b.cookie.Value, dropped.ID, "login", grant()); err != nil || won {
			t.Errorf("a dropped jump is claimed: %v, %v", won, err)
		}
	})
}

func TestJumpIsFoundByItsReferenceWithoutTheCookie(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		r := b.request()
		session := b.Open(r, cookieName)
		planted, err := b.Plant(session, Jump{Peer: peer, Wantsurl: "/post"})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.save(t, r, session); err != nil {
			t.Fatal(err)
		}
		ref := Ref(session, planted)
		if strings.Contains(ref, session.ID) {
			t.Errorf("the reference %s tells the session", ref)
		}
		var found Jump
		f.wantTrips(t, 1, func() {
			var ok bool
			if found, ok, err = b.Find(t.Context(), ref); !ok || err != nil {
				t.Fatal(ok, err)
			}
		})
		if found.Wantsurl != "/post" || found.ID != planted.ID {
			t.Errorf("found %+v", found)
		}
		f.wantTrips(t, 0, func() {
			for _, wrong := range []string{"", ".", planted.ID, planted.ID + ".x", "x." + hash(session.ID), planted.ID + "." + hash("")[:42], ref + "x", "../" + ref} {
				if _, ok, err := b.Find(t.Context(), wrong); ok || err != nil {
					t.Errorf("%q: %v, %v", wrong, ok, err)
				}
				if _, won, err := f.ClaimRef(t.Context(), wrong, "login", grant()); won || err != nil {
					t.Errorf("claim %q: %v, %v", wrong, won, err)
				}
			}
		})
		for _, stranger := range []string{random(jumpIDLength) + "." + hash(session.ID), planted.ID + "." + hash("another")} {
			if _, ok, err := b.Find(t.Context(), stranger); ok || err != nil {
				t.Errorf("%q: %v, %v", stranger, ok, err)
			}
		}
		if _, won, err := f.ClaimRef(t.Context(), ref, "login", grant()); !won || err != nil {
			t.Fatalf("claim: %v, %v", won, err)
		}
		if _, ok, err := b.Find(t.Context(), ref); ok || err != nil {
			t.Errorf("found again: %v, %v", ok, err)
		}
	})
}

func TestASessionEndsWhenItWaitsForNothingMore(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := limited(f.Site, Limits{PerAddress: 1, PerSite: 10})
		j := b.plant(t, "/one")
		r := b.request()
		session, err := b.New(r, cookieName)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.End(r, httptest.NewRecorder(), session); err != nil { // brings the script
			t.Fatal(err)
		}
		end := func() (cookies int) {
			w := httptest.NewRecorder()
			f.wantTrips(t, 1, func() { err = b.End(r, w, session) })
			if err != nil {
				t.Fatal(err)
			}
			return len(w.Result().Cookies())
		}
		if end() != 0 || len(b.jumps(t)) != 1 {
			t.Fatal("a session ended that waits for a login")
		}
		if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant()); !won || err != nil {
			t.Fatal(won, err)
		}
		if end() != 1 {
			t.Error("the cookie stays")
		}
		// Another browser of that address may begin: the first one counts no more.
		limited(f.Site, Limits{PerAddress: 1, PerSite: 10}).plant(t, "/two")
	})
}
