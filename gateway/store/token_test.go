package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jumpgate/gateway"
)

func nonce() (n [32]byte) {
	rand.Read(n[:])
	return n
}

func TestTokenIsRedeemedOnceAndCostsOneRoundTripEachWay(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		var token string
		f.wantTrips(t, 1, func() {
			var err error
			if token, err = f.Mint(t.Context(), grant()); err != nil {
				t.Fatal(err)
			}
		})
		if !wellFormed(token, 40) {
			t.Errorf("token %q is not 40 characters from [A-Za-z0-9]", token)
		}
		var got Grant
		f.wantTrips(t, 1, func() {
			var err error
			if got, err = f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
				t.Fatal(err)
			}
			if got.Expires.Sub(got.Issued) != TokenLife || got.Issued.Location() != time.UTC {
				t.Errorf("issued %s, expires %s", got.Issued, got.Expires)
			}
			got.Issued, got.Expires = time.Time{}, time.Time{}
			if diff := cmp.Diff(grant(), got, cmp.Comparer(func(a, b gateway.Wwwroot) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
		for _, gateway := range []*Site{f.Site, f.again()} {
			if _, err := gateway.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
				t.Errorf("second time: %v, want ErrNoToken", err)
			}
		}
	})
}

func TestTokenDiesWithAgeByTheRecordAlone(t *testing.T) {
	for _, test := range []struct {
		name string
		age  time.Duration
		want error
	}{
		{"29 s old is good", 29 * time.Second, nil},
		{"30 s old is expired", 30 * time.Second, ErrTokenExpired},
		{"31 s old is expired", 31 * time.Second, ErrTokenExpired},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				token, err := f.Mint(t.Context(), grant())
				if err != nil {
					t.Fatal(err)
				}
				f.clock.advance(test.age)
				g, err := f.Redeem(t.Context(), nonce(), token, redeemer())
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if err != nil && g != (Grant{}) {
					t.Error("a refused token still yields its grant")
				}
				if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
					t.Errorf("a second try got %v, want ErrNoToken", err)
				}
			})
		})
	}
}

func TestReplayedMessageGetsNoGrant(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		seen := nonce()
		for i, want := range []bool{false, true, true} {
			f.wantTrips(t, 1, func() {
				got, err := f.Replayed(t.Context(), seen)
				if err != nil || got != want {
					t.Errorf("call %d: replayed %v, %v", i, got, err)
				}
			})
		}
		token, err := f.Mint(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		g, err := f.Redeem(t.Context(), seen, token, redeemer())
		if !errors.Is(err, ErrReplayed) || g != (Grant{}) {
			t.Errorf("got %v, %v, want ErrReplayed alone", g, err)
		}
		ttl, err := f.r.client.PTTL(t.Context(), f.nonceKey(seen)).Result()
		if err != nil || ttl > NonceLife || ttl < NonceLife-time.Minute {
			t.Errorf("nonce is kept for %s, %v", ttl, err)
		}
		brief := nonce()
		for i, want := range []bool{false, true} {
			if got, err := f.ReplayedWithin(t.Context(), brief, time.Minute); err != nil || got != want {
				t.Errorf("call %d for a minute: replayed %v, %v", i, got, err)
			}
		}
		if ttl, err := f.r.client.PTTL(t.Context(), f.nonceKey(brief)).Result(); err != nil || ttl > time.Minute || ttl < 50*time.Second {
			t.Errorf("nonce for a minute is kept for %s, %v", ttl, err)
		}
	})
}

func TestOfManyRedemptionsAtOnceOneWins(t *testing.T) {
	for _, test := range []struct {
		name  string
		nonce func() func() [32]byte
		lose  error
	}{
		{"each with its own message", func() func() [32]byte { return nonce }, ErrNoToken},
		{"all with the same message", func() func() [32]byte { n := nonce(); return func() [32]byte { return n } }, ErrReplayed},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				token, err := f.Mint(t.Context(), grant())
				if err != nil {
					t.Fatal(err)
				}
				sites := []*Site{f.Site, f.again()}
				next := test.nonce()
				errs := make([]error, 16)
				var all sync.WaitGroup
				for i := range errs {
					n := next()
					all.Go(func() { _, errs[i] = sites[i%2].Redeem(t.Context(), n, token, redeemer()) })
				}
				all.Wait()
				won := 0
				for _, err := range errs {
					if err == nil {
						won++
					} else if !errors.Is(err, test.lose) {
						t.Errorf("a loser got %v, want %v", err, test.lose)
					}
				}
				if won != 1 {
					t.Errorf("%d redemptions won", won)
				}
			})
		})
	}
}

func TestRedisNeverSeesATokenOrCookie(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		token, err := f.Mint(t.Context(), grant())
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(f.Site)
		b.plant(t, "/mod/forum/discuss.php?d=1")
		keys := f.keys(t)
		if len(keys) != 4 { // token, session, site, address
			t.Errorf("keys are %q", keys)
		}
		for _, key := range keys {
			if !strings.HasPrefix(key, "jumpgate:{https://site") || strings.Count(key, "{") != 1 {
				t.Errorf("key %q lacks the site's hash tag", key)
			}
			if strings.Contains(key, token) || strings.Contains(key, b.cookie.Value) {
				t.Errorf("key %q shows a secret", key)
			}
			if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl <= 0 {
				t.Errorf("key %q never ends", key)
			}
		}
		value, err := f.r.client.Get(t.Context(), f.tokenKey(token)).Bytes()
		if err != nil || bytes.Contains(value, []byte(token)) {
			t.Errorf("record %q, %v", value, err)
		}
	})
}

func TestGrantThatCannotBeIsRefused(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	nobody, huge := grant(), grant()
	nobody.Peer = gateway.Wwwroot{}
	huge.User.Description = strings.Repeat("x", maxGrant)
	for name, g := range map[string]Grant{"without a peer": nobody, "too large": huge} {
		f.wantTrips(t, 0, func() {
			if token, err := f.Mint(t.Context(), g); err == nil || token != "" {
				t.Errorf("grant %s: token %q, %v", name, token, err)
			}
		})
	}
}

func TestUnknownAndMalformedTokensAreNoTokens(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for _, token := range []string{"", "x", random(40), strings.Repeat("\x00", 40), strings.Repeat("a", 1<<16)} {
			if _, err := f.Redeem(t.Context(), nonce(), token, redeemer()); !errors.Is(err, ErrNoToken) {
				t.Errorf("token of %d bytes: %v, want ErrNoToken", len(token), err)
			}
		}
	})
}

func TestRandomCharactersAreUniform(t *testing.T) {
	const n = 62 * 5000
	var count [256]int
	for _, c := range []byte(random(n)) {
		count[c]++
	}
	for _, c := range []byte(alphabet) {
		// Mean 5,000, standard deviation 70: eight of them are no accident.
		if count[c] < 4440 || count[c] > 5560 {
			t.Errorf("%q occurs %d times in %d", c, count[c], n)
		}
		n := count[c]
		count[c] -= n
	}
	if count != [256]int{} {
		t.Error("characters outside of the alphabet")
	}
}

func TestATokenOfAPeerThatHasMovedIsItsOwn(t *testing.T) {
	for _, test := range []struct {
		name    string
		peer    string
		aliases []string
		want    error
	}{
		{"an alias", "https://new.example", []string{"https://x.example", grant().Peer.String(), "https://y.example"}, nil},
		{"the wwwroot, whatever the aliases", grant().Peer.String(), []string{"https://x.example"}, nil},
		{"no alias", "https://new.example", nil, ErrOtherPeer},
		{"an alias that only begins like it", "https://new.example", []string{grant().Peer.String() + "/moodle", grant().Peer.String() + "x"}, ErrOtherPeer},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				token, err := f.Mint(t.Context(), grant())
				if err != nil {
					t.Fatal(err)
				}
				by := redeemer()
				by.Peer, by.Aliases = mustWwwroot(test.peer), nil
				for _, alias := range test.aliases {
					by.Aliases = append(by.Aliases, mustWwwroot(alias))
				}
				if _, err := f.Redeem(t.Context(), nonce(), token, by); err != test.want {
					t.Errorf("got %v, want %v", err, test.want)
				}
			})
		})
	}
}
