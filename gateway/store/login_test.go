package store

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/sessions"

	"jumpgate/gateway"
)

// plantLogin remembers a jump that waits for a login at a provider, and
// returns it with its reference.
func (b *browser) plantLogin(t *testing.T, wantsurl string) (Jump, string) {
	t.Helper()
	r := b.request()
	session := b.Open(r, cookieName)
	j, err := b.PlantLogin(session, Jump{Peer: peer, Wantsurl: wantsurl})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.save(t, r, session); err != nil {
		t.Fatal(err)
	}
	return j, Ref(session, j)
}

func TestAJumpThatWaitsForAProviderIsTakenOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		planted, ref := b.plantLogin(t, "/x?d=1#p3")
		other, otherRef := b.plantLogin(t, "/y")
		if len(planted.Nonce) < 22 || len(planted.Verifier) < 43 || planted.Nonce == other.Nonce || planted.Verifier == other.Verifier {
			t.Errorf("secrets %+v, %+v", planted, other)
		}
		var taken atomic.Int32
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				j, ok, err := b.Take(t.Context(), ref)
				if err != nil {
					t.Error(err)
				}
				if ok {
					taken.Add(1)
					if diff := cmp.Diff(planted, j, cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b })); diff != "" {
						t.Error(diff)
					}
				}
			})
		}
		all.Wait()
		if n := taken.Load(); n != 1 {
			t.Errorf("taken %d times", n)
		}
		f.wantTrips(t, 1, func() {
			if j, ok, err := b.Take(t.Context(), otherRef); err != nil || !ok || j.Wantsurl != "/y" {
				t.Errorf("the other: %+v, %v, %v", j, ok, err)
			}
		})
		// The session lives on, with its lifetime: another tab may be about
		// to plant a jump in it.
		if ttl := f.r.client.TTL(t.Context(), f.sessionKey(b.cookie.Value)).Val(); ttl <= 0 {
			t.Errorf("the session lives for %s", ttl)
		}
	})
}

func TestWhatCannotBeTaken(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		_, late := b.plantLogin(t, "/late")
		f.clock.advance(JumpLife)
		r := b.request()
		session := b.Open(r, cookieName)
		j, err := b.Plant(session, Jump{Peer: peer, Wantsurl: "/moodle"})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.save(t, r, session); err != nil {
			t.Fatal(err)
		}
		for name, ref := range map[string]string{
			"one that is too late":          late,
			"one that waits for Moodle":     Ref(session, j),
			"one that nobody planted":       random(22) + "." + hash(b.cookie.Value),
			"one of nobody's session":       random(22) + "." + hash(random(40)),
			"no reference":                  "x",
			"a reference to something else": "login." + hash(b.cookie.Value),
		} {
			if j, ok, err := b.Take(t.Context(), ref); ok || err != nil {
				t.Errorf("%s: %+v, %v", name, j, err)
			}
		}
	})
}

func TestASessionOwnsItsJumps(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	b, stranger := newBrowser(f.Site), newBrowser(f.Site)
	_, ref := b.plantLogin(t, "/x")
	_, strangers := stranger.plantLogin(t, "/x")
	mine := b.Open(b.request(), cookieName)
	nobodys := b.Open(newBrowser(f.Site).request(), cookieName)
	for _, test := range []struct {
		name string
		got  bool
		want bool
	}{
		{"its own", Owns(mine, ref), true},
		{"a stranger's", Owns(mine, strangers), false},
		{"a browser without a session", Owns(nobodys, ref), false},
		{"a session without an id", Owns(nobodys, strings.SplitN(ref, ".", 2)[0]+"."+hash("")), false},
		{"no reference", Owns(mine, ""), false},
	} {
		if test.got != test.want {
			t.Errorf("%s: %v", test.name, test.got)
		}
	}
}

func TestALoginIsRememberedForItsTime(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		want := Login{Issuer: "https://login.example", User: grant().User}
		var cookie string
		f.wantTrips(t, 1, func() {
			var err error
			if cookie, err = f.BeginLogin(t.Context(), want, time.Hour); err != nil || len(cookie) != 40 {
				t.Fatal(cookie, err)
			}
		})
		f.wantTrips(t, 1, func() {
			got, ok, err := f.Login(t.Context(), cookie)
			want.Expires = got.Expires
			if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
				t.Errorf("%v, %v, %s", ok, err, diff)
			}
		})
		if got, ok, err := f.again().Login(t.Context(), cookie); !ok || err != nil || got.User != want.User {
			t.Errorf("at another gateway: %+v, %v, %v", got, ok, err)
		}
		for _, key := range f.keys(t) {
			if strings.Contains(key, cookie) {
				t.Errorf("the cookie is in Redis: %s", key)
			}
		}
		f.wantTrips(t, 0, func() {
			if _, ok, err := f.Login(t.Context(), "*"); ok || err != nil {
				t.Error(ok, err)
			}
		})
		if _, ok, err := f.Login(t.Context(), random(40)); ok || err != nil {
			t.Errorf("a cookie that nobody has: %v, %v", ok, err)
		}
		f.clock.advance(time.Hour)
		if _, ok, err := f.Login(t.Context(), cookie); ok || err != nil {
			t.Errorf("an hour later: %v, %v", ok, err)
		}
		f.clock.advance(-time.Hour)
		if err := f.EndLogin(t.Context(), cookie); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := f.Login(t.Context(), cookie); ok || err != nil {
			t.Errorf("after its end: %v, %v", ok, err)
		}
		want.User.Description = strings.Repeat("x", maxGrant)
		if _, err := f.BeginLogin(t.Context(), want, time.Hour); err == nil {
			t.Error("a login without bounds is remembered")
		}
	})
}

func TestLoginsNeedRedis(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	b := newBrowser(f.Site)
	_, ref := b.plantLogin(t, "/x")
	f.r.Close()
	_, err1 := f.BeginLogin(t.Context(), Login{}, time.Hour)
	_, _, err2 := f.Login(t.Context(), random(40))
	_, _, err3 := b.Take(t.Context(), ref)
	for i, err := range []error{err1, err2, err3, f.EndLogin(t.Context(), random(40))} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestTakingIsNotTriedTwice(t *testing.T) {
	addr, sent := deafServer(t)
	st := open(t, Options{Addr: "redis://" + addr}).Site(peer).Sessions(sessions.Options{}, Limits{}, nil)
	if _, _, err := st.Take(t.Context(), random(22)+"."+hash("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("sent %d times", n)
	}
}
