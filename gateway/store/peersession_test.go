package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

const (
	browserB = "9d75afdd54124ba37b66afbc19bcb772ab52d104"
	homeB    = "bobbobbobbobbobbobbobbobbo"
)

var otherPeer = mustWwwroot("https://mahara.example/m")

// visit is a learner's way to a peer.
type visit struct {
	username  string
	peer      gateway.Wwwroot
	userAgent string
	home      string
}

// begin mints and redeems a token.
func (f fixture) begin(t *testing.T, v visit) {
	t.Helper()
	g := grant()
	g.User.Username, g.Peer, g.UserAgent = v.username, v.peer, v.userAgent
	g.Home, g.HomeHash = "sealed-"+v.home, HomeHash(v.home)
	token, err := f.Mint(t.Context(), g)
	if err == nil {
		_, err = f.Redeem(t.Context(), nonce(), token, Redeemer{Peer: v.peer, UserAgent: v.userAgent, Life: 8 * time.Hour})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// visits says where sessions are, without their times, in order.
func visits(all []PeerSession) []visit {
	var list []visit
	for _, p := range all {
		list = append(list, visit{p.Username, p.Peer, p.UserAgent, strings.TrimPrefix(p.Home, "sealed-")})
	}
	return sorted(list)
}

func sorted(list []visit) []visit {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b visit) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return list
}

var compareWwwroots = cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b })

// wantVisits compares what a call returned.
func wantVisits(t *testing.T, all []PeerSession, err error, want ...visit) {
	t.Helper()
	if diff := cmp.Diff(sorted(want), visits(all), cmp.AllowUnexported(visit{}), compareWwwroots); diff != "" || err != nil {
		t.Errorf("(-want +got), %v\n%s", err, diff)
	}
}

var (
	atForum  = visit{"ada", peer, browserA, homeA}
	atMahara = visit{"ada", otherPeer, browserA, homeA}
	onPhone  = visit{"ada", peer, browserB, homeB}
	bobs     = visit{"bob", peer, browserA, homeB}
)

func TestARedemptionBeginsASession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		all, err := f.PeerSessions(t.Context(), "ada")
		wantVisits(t, all, err, atForum)
		p := all[0]
		if p.UserID != 3 || p.Expires.Sub(p.Started) != 8*time.Hour || !p.Ended.IsZero() || p.Started.Location() != time.UTC {
			t.Errorf("got %+v", p)
		}
		f.clock.advance(time.Minute)
		f.begin(t, visit{"ada", peer, browserA, homeB}) // the same browser once more
		again, err := f.PeerSessions(t.Context(), "ada")
		wantVisits(t, again, err, visit{"ada", peer, browserA, homeB})
		for _, key := range f.keys(t) {
			if strings.Contains(key, homeA) {
				t.Errorf("key %q shows a Moodle session", key)
			}
			if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 32*time.Hour {
				t.Errorf("key %q is kept for %s", key, ttl)
			}
		}
	})
}

func TestOnlyTheRightRedemptionBeginsASession(t *testing.T) {
	other := func(change func(*Redeemer)) Redeemer { r := redeemer(); change(&r); return r }
	for _, test := range []struct {
		name string
		by   Redeemer
		wait time.Duration
		out  bool
		want error
	}{
		{"another peer", other(func(r *Redeemer) { r.Peer = otherPeer }), 0, false, ErrOtherPeer},
		{"another browser", other(func(r *Redeemer) { r.UserAgent = browserB }), 0, false, ErrOtherBrowser},
		{"no browser", other(func(r *Redeemer) { r.UserAgent = "" }), 0, false, ErrOtherBrowser},
		{"too late", redeemer(), TokenLife, false, ErrTokenExpired},
		{"after the logout", redeemer(), 0, true, ErrLoggedOut},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				token, err := f.Mint(t.Context(), grant())
				if err != nil {
					t.Fatal(err)
				}
				f.clock.advance(test.wait)
				if test.out {
					all, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
					wantVisits(t, all, err)
				}
				f.wantTrips(t, 1, func() {
					if g, err := f.Redeem(t.Context(), nonce(), token, test.by); err != test.want || g != (Grant{}) {
						t.Errorf("got %+v, %v, want %v", g, err, test.want)
					}
				})
				if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != ErrNoToken {
					t.Errorf("the token is not burnt: %v", err)
				}
				all, err := f.PeerSessions(t.Context(), "ada")
				wantVisits(t, all, err)
			})
		})
	}
}

func TestASessionIsLiveThenRecentThenForgotten(t *testing.T) {
	for _, test := range []struct {
		name         string
		wait         time.Duration
		end          bool
		live, recent bool
	}{
		{"at once", 0, false, true, true},
		{"before it expires", 8*time.Hour - time.Minute, false, true, true},
		{"expired", 8 * time.Hour, false, false, true},
		{"expired for almost a day", 32*time.Hour - time.Minute, false, false, true},
		{"expired for a day", 32 * time.Hour, false, false, false},
		{"ended", 0, true, false, true},
		{"ended almost a day ago", 24*time.Hour - time.Minute, true, false, true},
		{"ended a day ago", 24*time.Hour + time.Minute, true, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				f.begin(t, atForum)
				if test.end {
					all, err := f.EndPeerSessions(t.Context(), "ada", "")
					wantVisits(t, all, err, atForum)
				}
				f.clock.advance(test.wait)
				f.wantTrips(t, 1, func() {
					live, recent, err := f.SessionAt(t.Context(), peer, "ada")
					if live != test.live || recent != test.recent || err != nil {
						t.Errorf("live %t, recent %t, %v", live, recent, err)
					}
				})
				if live, recent, err := f.SessionAt(t.Context(), otherPeer, "ada"); live || recent || err != nil {
					t.Errorf("at another peer: live %t, recent %t, %v", live, recent, err)
				}
			})
		})
	}
}

func TestAPeerExtendsItsOwnLiveSessions(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for _, v := range []visit{atForum, onPhone, atMahara, {"carol", otherPeer, browserA, homeB}} {
			f.begin(t, v)
		}
		f.clock.advance(time.Hour)
		f.begin(t, bobs)
		if _, err := f.EndPeerSessions(t.Context(), "bob", ""); err != nil {
			t.Fatal(err)
		}
		f.wantTrips(t, 1, func() {
			e, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada", "bob", "carol", "nobody", strings.Repeat("x", 300)}, 8*time.Hour, true)
			wantVisits(t, e.Live, err, atForum, onPhone)
			for _, p := range e.Live {
				if p.Expires.Sub(p.Started).Round(time.Minute) != 9*time.Hour {
					t.Errorf("%v expires %s after it started", p.UserAgent, p.Expires.Sub(p.Started))
				}
			}
			if diff := cmp.Diff([][]string{{"bob"}, {"carol", "nobody", strings.Repeat("x", 300)}}, [][]string{e.Lapsed, e.Unknown}); diff != "" {
				t.Errorf("lapsed and unknown (-want +got)\n%s", diff)
			}
		})
		f.clock.advance(7*time.Hour + time.Minute) // eight hours since it all began
		live, _, err := f.SessionAt(t.Context(), peer, "ada")
		if !live || err != nil {
			t.Errorf("extended, it lives %t, %v", live, err)
		}
		if live, _, _ := f.SessionAt(t.Context(), otherPeer, "ada"); live {
			t.Error("another peer's session was extended")
		}
		all, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
		wantVisits(t, all, err, atForum)
	})
}

func TestManyLearnersAreExtendedInAFewRoundTrips(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		names := make([]string, 1200)
		for i := range names {
			names[i] = fmt.Sprintf("learner%d", i)
		}
		names[1100] = "ada"
		f.wantTrips(t, 24, func() {
			e, err := f.ExtendPeerSessions(t.Context(), peer, names, 8*time.Hour, true)
			wantVisits(t, e.Live, err, atForum)
			if len(e.Unknown) != 1199 {
				t.Errorf("%d are unknown", len(e.Unknown))
			}
		})
	})
}

func TestALearnerNamedOftenIsExtendedOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for i := range 60 {
			f.begin(t, visit{"ada", peer, fmt.Sprintf("%040x", i), homeA})
		}
		names := append(slices.Repeat([]string{"zoe", "ada", "bob"}, 3300), slices.Repeat([]string{strings.Repeat("x", 300)}, 100)...)
		want := []string{"zoe", "bob", strings.Repeat("x", 300)} // in their order
		for _, homes := range []bool{true, false} {
			f.wantTrips(t, 1, func() {
				e, err := f.ExtendPeerSessions(t.Context(), peer, names, 8*time.Hour, homes)
				if err != nil || homes && len(e.Live) != 60 || !homes && len(e.Live) != 0 {
					t.Errorf("%d records, %v", len(e.Live), err)
				}
				if diff := cmp.Diff(want, e.Unknown); diff != "" {
					t.Errorf("unknown (-want +got)\n%s", diff)
				}
			})
		}
	})
}

func TestNoPeerKeepsASessionForEver(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		all, err := f.PeerSessions(t.Context(), "ada")
		if err != nil {
			t.Fatal(err)
		}
		until := all[0].Started.Add(PeerSessionMax)
		for f.clock.now().Before(until.Add(-7 * time.Hour)) {
			f.clock.advance(7 * time.Hour)
			if e, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada"}, 8*time.Hour, true); err != nil || len(e.Live) != 1 || e.Live[0].Expires.After(until) {
				t.Fatalf("got %+v, %v", e, err)
			}
		}
		f.clock.advance(until.Sub(f.clock.now()))
		if e, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada"}, 8*time.Hour, true); err != nil || !slices.Equal(e.Lapsed, []string{"ada"}) {
			t.Errorf("after %s: %+v, %v", PeerSessionMax, e, err)
		}
	})
}

func TestWhichSessionsEnd(t *testing.T) {
	all := []visit{atMahara, atForum, onPhone, bobs}
	of := func(names ...visit) []visit { return names }
	for _, test := range []struct {
		name string
		end  func(fixture, *testing.T) ([]PeerSession, error)
		want []visit
	}{
		{"those of a learner", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessions(t.Context(), "ada", "")
		}, of(atForum, onPhone, atMahara)},
		{"those of a learner's browser", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessions(t.Context(), "ada", browserB)
		}, of(onPhone)},
		{"those that belong to a Moodle session", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndHomeSession(t.Context(), f.Ending(homeA))
		}, of(atForum, atMahara)},
		{"none for a Moodle session that never jumped", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndHomeSession(t.Context(), f.Ending("zzzzzzzzzzzzzzzzzzzzzzzzzz"))
		}, nil},
		{"those of the browser that a peer names", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessionsFor(t.Context(), otherPeer, "ada", browserA)
		}, of(atForum, atMahara)},
		{"none for a peer where the browser has no session", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessionsFor(t.Context(), otherPeer, "ada", browserB)
		}, nil},
		{"none for a peer where the learner has no session", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessionsFor(t.Context(), otherPeer, "bob", browserA)
		}, nil},
		{"none for a peer that names no browser", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessionsFor(t.Context(), peer, "ada", "")
		}, nil},
		{"none for a peer that names two things as one", func(f fixture, t *testing.T) ([]PeerSession, error) {
			return f.EndPeerSessionsFor(t.Context(), peer, "ada", " "+browserA)
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				for _, v := range all {
					f.begin(t, v)
				}
				before := f.trips.Load()
				ended, err := test.end(f, t)
				if trips := f.trips.Load() - before; trips > 1 {
					t.Errorf("%d round trips", trips)
				}
				wantVisits(t, ended, err, test.want...)
				for _, p := range ended {
					if p.Ended.IsZero() {
						t.Errorf("%v has not ended", p)
					}
				}
				for _, p := range ended {
					if err := f.Told(t.Context(), p); err != nil {
						t.Error(err)
					}
				}
				again, err := test.end(f, t)
				wantVisits(t, again, err)
				live, more, err := f.ListPeerSessions(t.Context(), 10)
				left := slices.DeleteFunc(slices.Clone(all), func(v visit) bool { return slices.Contains(test.want, v) })
				wantVisits(t, live, err, left...)
				if more {
					t.Error("there are more of them")
				}
			})
		})
	}
}

func TestALogoutEndsWhatAnEarlierSessionInTheBrowserLeft(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atMahara)
		f.begin(t, visit{"ada", peer, browserA, homeB}) // logged in once more
		ended, err := f.EndHomeSession(t.Context(), f.Ending(homeB))
		wantVisits(t, ended, err, visit{"ada", peer, browserA, homeB}, atMahara)
	})
}

func TestALogoutEndsSessionsFromBeforeTheBrowserWasUpdated(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atMahara)
		f.begin(t, visit{"ada", peer, browserB, homeA})
		ended, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
		wantVisits(t, ended, err, visit{"ada", peer, browserB, homeA}, atMahara)
	})
}

func TestOfManyWhoEndASessionEachIsToldOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for i := range 20 {
			f.begin(t, visit{"ada", mustWwwroot(fmt.Sprintf("https://p%d.example", i)), browserA, homeA})
		}
		var mu sync.Mutex
		var told []PeerSession
		var all sync.WaitGroup
		for i, site := range []*Site{f.Site, f.again(), f.Site, f.again()} {
			all.Go(func() {
				end := func() ([]PeerSession, error) { return site.EndHomeSession(t.Context(), site.Ending(homeA)) }
				if i > 1 {
					end = func() ([]PeerSession, error) { return site.EndPeerSessions(t.Context(), "ada", browserA) }
				}
				ended, err := end()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				told = append(told, ended...)
				mu.Unlock()
			})
		}
		all.Wait()
		if got := len(slices.Compact(visits(told))); len(told) != 20 || got != 20 {
			t.Errorf("%d sessions were told, %d of them different", len(told), got)
		}
	})
}

func TestALostAnswerLosesNoSession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		for range 2 { // what go-redis sends again
			answer, err := scriptEndPeers.Run(t.Context(), f.r.client, []string{f.learnerKey("ada")}, micros(f.r.now()), "caller", 1, "ada", "", "").Slice()
			if err != nil || len(answer) != 3 {
				t.Errorf("got %q, %v", answer, err)
			}
		}
	})
}

func TestTheOldestSessionMakesRoomForTheNewest(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for i := range maxPeerSessions + 2 {
			f.begin(t, visit{"ada", mustWwwroot(fmt.Sprintf("https://p%d.example", i)), browserA, homeA})
			f.clock.advance(time.Second)
		}
		all, err := f.PeerSessions(t.Context(), "ada")
		if err != nil || len(all) != maxPeerSessions {
			t.Fatalf("%d sessions, %v", len(all), err)
		}
		newest, oldest := all[0].Peer.String(), all[len(all)-1].Peer.String()
		if newest != "https://p65.example" || oldest != "https://p2.example" {
			t.Errorf("from %s to %s", oldest, newest)
		}
	})
}

func TestASessionThatIsOverMakesRoomFirst(t *testing.T) {
	for name, over := range map[string]func(*testing.T, fixture){
		"ended": func(t *testing.T, f fixture) {
			if _, err := f.EndPeerSessions(t.Context(), "ada", browserB); err != nil {
				t.Fatal(err)
			}
		},
		"expired": func(t *testing.T, f fixture) {
			f.clock.advance(2 * time.Hour) // its eight hours, since the others were extended
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				f.begin(t, atForum)
				f.clock.advance(time.Hour)
				f.begin(t, visit{"ada", otherPeer, browserB, homeA})
				f.clock.advance(6 * time.Hour)
				if _, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada"}, 8*time.Hour, false); err != nil {
					t.Fatal(err)
				}
				over(t, f)
				for i := range maxPeerSessions - 1 {
					f.begin(t, visit{"ada", mustWwwroot(fmt.Sprintf("https://p%d.example", i)), browserA, homeA})
				}
				all, err := f.PeerSessions(t.Context(), "ada")
				if err != nil || len(all) != maxPeerSessions || all[len(all)-1].Peer != peer {
					t.Errorf("%d sessions, the first at %s, %v", len(all), all[len(all)-1].Peer, err)
				}
			})
		})
	}
}

func TestStrangersCannotFillRedisWithSessionsThatEnded(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for i := range 5 {
			if _, err := f.EndHomeSession(t.Context(), f.Ending(fmt.Sprint("never was ", i))); err != nil {
				t.Fatal(err)
			}
		}
		keys := f.keys(t)
		for _, key := range keys {
			if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl <= TokenLife || ttl > time.Minute {
				t.Errorf("key %q is kept for %s", key, ttl)
			}
		}
		if len(keys) != 5 {
			t.Errorf("keys are %q", keys)
		}
	})
}

func TestWhoseSessionsAllEndedHasNoTokenFromBefore(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		mint := func(username string) string {
			g := grant()
			g.User.Username = username
			token, err := f.Mint(t.Context(), g)
			if err != nil {
				t.Fatal(err)
			}
			f.clock.advance(time.Second)
			return token
		}
		before, bobs, inOneBrowser := mint("ada"), mint("bob"), mint("carol")
		for username, userAgent := range map[string]string{"ada": "", "carol": browserA} {
			all, err := f.EndPeerSessions(t.Context(), username, userAgent)
			wantVisits(t, all, err)
		}
		f.clock.advance(time.Second)
		for token, want := range map[string]error{before: ErrLoggedOut, bobs: nil, inOneBrowser: nil, mint("ada"): nil} {
			f.wantTrips(t, 1, func() {
				if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); err != want {
					t.Errorf("got %v, want %v", err, want)
				}
			})
		}
	})
}

func TestALogoutThatRedisHearsOfLateEndsNothingThatBeganSince(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		f.clock.advance(time.Second)
		e := f.Ending(homeA)
		f.clock.advance(time.Second)
		later := visit{"ada", otherPeer, browserA, homeB}
		f.begin(t, later)
		for range 2 { // of which the first answer was lost
			ended, err := f.EndHomeSession(t.Context(), e)
			wantVisits(t, ended, err, atForum)
		}
		live, _, err := f.ListPeerSessions(t.Context(), 10)
		wantVisits(t, live, err, later)
	})
}

func TestAnIPv6SiteListsItsOwnSessionsAlone(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		mine := fixture{Site: f.r.Site(mustWwwroot(fmt.Sprintf("http://[::1]:%d", 8080+siteNumber.Add(1)))), clock: f.clock, trips: f.trips}
		mine.begin(t, atForum)
		f.begin(t, bobs)
		live, more, err := mine.ListPeerSessions(t.Context(), 10)
		if wantVisits(t, live, err, atForum); more {
			t.Error("there are more of them")
		}
		mine.begin(t, bobs)
		if live, more, err = mine.ListPeerSessions(t.Context(), 1); len(live) != 1 || !more || err != nil {
			t.Errorf("%d sessions, more %t, %v", len(live), more, err)
		}
	})
}

func TestAGrantThatWouldSpoilARecordIsRefused(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	for name, spoil := range map[string]func(*Grant){
		"no username":             func(g *Grant) { g.User.Username = "" },
		"a username without end":  func(g *Grant) { g.User.Username = strings.Repeat("x", 256) },
		"a home with blanks":      func(g *Grant) { g.Home = "a b" },
		"a hash with blanks":      func(g *Grant) { g.HomeHash = "a b" },
		"no hash":                 func(g *Grant) { g.HomeHash = "" },
		"a browser with a blank":  func(g *Grant) { g.UserAgent = "a b" },
		"a browser with two rows": func(g *Grant) { g.UserAgent = "a\nb" },
	} {
		g := grant()
		spoil(&g)
		if _, err := f.Mint(t.Context(), g); err == nil {
			t.Errorf("%s: minted", name)
		}
	}
}

func TestTheDocumentedRightsSuffice(t *testing.T) {
	admin := open(t, Options{Addr: sharedURL(t)})
	rules := []any{"ACL", "SETUSER", "jumpgate", "on", ">another-one", "resetchannels", "~jumpgate:*",
		"+@read", "+@write", "+@scripting", "+@transaction", "+@connection", "-@dangerous"} // README
	if err := admin.client.Do(t.Context(), rules...).Err(); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t, Options{Addr: sharedURL(t), Username: "jumpgate", Password: "another-one"})
	f.begin(t, atForum)
	f.begin(t, bobs)
	if _, err := f.ExtendPeerSessions(t.Context(), peer, []string{"ada"}, time.Hour, false); err != nil {
		t.Error(err)
	}
	live, _, err := f.ListPeerSessions(t.Context(), 10)
	wantVisits(t, live, err, atForum, bobs)
	ended, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
	wantVisits(t, ended, err, atForum)
}

func TestWhatAPeerWasNotToldCanBeEndedOnceMore(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		f.begin(t, atMahara)
		ended, err := f.EndHomeSession(t.Context(), f.Ending(homeA))
		wantVisits(t, ended, err, atForum, atMahara)
		for _, p := range ended {
			if p.Peer == peer {
				if err := f.Told(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
		}
		ended, err = f.EndHomeSession(t.Context(), f.Ending(homeA))
		wantVisits(t, ended, err) // by itself it happens once
		ended, err = f.EndPeerSessions(t.Context(), "ada", "")
		wantVisits(t, ended, err, atMahara)
		f.clock.advance(PeerSessionRecent + time.Minute)
		ended, err = f.EndPeerSessions(t.Context(), "ada", "")
		wantVisits(t, ended, err)
	})
}

func TestToldIsOfOneSession(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		f.begin(t, atForum)
		ended, err := f.EndPeerSessions(t.Context(), "ada", "")
		if err != nil || len(ended) != 1 {
			t.Fatal(ended, err)
		}
		f.clock.advance(time.Second)
		f.begin(t, atForum) // the learner lands again
		if err := f.Told(t.Context(), ended[0]); err != nil {
			t.Error(err)
		}
		live, recent, err := f.SessionAt(t.Context(), peer, "ada")
		if !live || !recent || err != nil {
			t.Errorf("the new session: %t %t %v", live, recent, err)
		}
	})
}

func TestARedemptionSaysWhetherThePeerMayKnowOfASessionBefore(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		lands := func() bool {
			t.Helper()
			f.clock.advance(time.Second)
			token, err := f.Mint(t.Context(), grant())
			if err != nil {
				t.Fatal(err)
			}
			g, err := f.Redeem(t.Context(), nonce(), token, Redeemer{Peer: peer, UserAgent: grant().UserAgent, Life: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			return g.Again
		}
		if lands() {
			t.Error("before the first landing")
		}
		if !lands() {
			t.Error("not while a session lives")
		}
		ended, err := f.EndPeerSessions(t.Context(), "ada", "")
		if err != nil || len(ended) != 1 {
			t.Fatal(ended, err)
		}
		if !lands() {
			t.Error("not after an end of which nobody told the peer")
		}
		if ended, err = f.EndPeerSessions(t.Context(), "ada", ""); err != nil || len(ended) != 1 {
			t.Fatal(ended, err)
		}
		if err := f.Told(t.Context(), ended[0]); err != nil {
			t.Fatal(err)
		}
		if lands() {
			t.Error("after the peer was told of the end")
		}
	})
}
