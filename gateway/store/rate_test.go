package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jumpgate/gateway"
)

func hourly(n int) gateway.Rate { return gateway.Rate{N: n, Per: time.Hour, Burst: n} }

// refusal returns what refused, and for how long; nothing if nothing did.
func refusal(t *testing.T, err error) (gateway.Rule, time.Duration) {
	t.Helper()
	if err == nil {
		return "", 0
	}
	limit, ok := errors.AsType[*RateError](err)
	if !ok || errors.Is(err, ErrUnavailable) {
		t.Fatalf("an error that is no limit: %v", err)
	}
	return limit.Rule, limit.After
}

func TestALimitLetsABurstThroughAndThenItsPace(t *testing.T) {
	// What Mint and Spend charge, they charge alike.
	for name, jump := range map[string]func(fixture, ...Charge) error{
		"mint":  func(f fixture, c ...Charge) error { _, err := f.Mint(context.Background(), grant(), c...); return err },
		"spend": func(f fixture, c ...Charge) error { return f.Spend(context.Background(), c...) },
	} {
		t.Run(name, func(t *testing.T) {
			eachRedis(t, func(t *testing.T, f fixture) {
				still := time.Now()
				f.r.now = func() time.Time { return still }
				per := PerUser("ada", gateway.Rate{N: 6, Per: time.Minute, Burst: 3})
				for i := range 3 {
					if err := jump(f, per); err != nil {
						t.Fatalf("number %d of the burst: %v", i+1, err)
					}
				}
				for range 2 { // a refusal costs nothing
					if rule, after := refusal(t, jump(f, per)); rule != gateway.RuleRateUser || after != 10*time.Second {
						t.Fatalf("after the burst: %q, %s", rule, after)
					}
				}
				if err := jump(f, PerUser("bob", gateway.Rate{N: 6, Per: time.Minute, Burst: 3})); err != nil {
					t.Errorf("somebody else: %v", err)
				}
				still = still.Add(10*time.Second - time.Microsecond)
				if rule, after := refusal(t, jump(f, per)); rule != gateway.RuleRateUser || after != time.Microsecond {
					t.Errorf("a moment too early: %q, %s", rule, after)
				}
				still = still.Add(time.Microsecond)
				if err := jump(f, per); err != nil {
					t.Errorf("when it said: %v", err)
				}
				if rule, _ := refusal(t, jump(f, per)); rule == "" {
					t.Error("two at once after one period")
				}
				still = still.Add(time.Hour)
				for i := range 4 {
					if rule, _ := refusal(t, jump(f, per)); (rule != "") != (i == 3) {
						t.Errorf("number %d after a rest: %q", i+1, rule)
					}
				}
			})
		})
	}
}

func TestALimitThatRefusesChargesNoOther(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		user, address := PerUser("ada", hourly(2)), PerAddress(netip.MustParseAddr("192.0.2.1"), hourly(3))
		full := PerPeer(peer, hourly(1))
		if err := f.Spend(t.Context(), full); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			token, err := f.Mint(t.Context(), grant(), user, address, full)
			if rule, _ := refusal(t, err); rule != gateway.RuleRatePeer || token != "" {
				t.Fatalf("%q, token %q", rule, token)
			}
		}
		for i := range 3 {
			if rule, _ := refusal(t, f.Spend(t.Context(), user, address)); (rule != "") != (i == 2) {
				t.Errorf("number %d: %q", i+1, rule)
			}
		}
		// Both are used up but for one of the address: the one to wait for
		// longest is told.
		if err := f.Spend(t.Context(), address); err != nil {
			t.Fatal(err)
		}
		if rule, after := refusal(t, f.Spend(t.Context(), address, user, full)); rule != gateway.RuleRatePeer || after < 50*time.Minute {
			t.Errorf("of three that refuse: %q, %s", rule, after)
		}
		if keys := strings.Join(f.keys(t), " "); strings.Contains(keys, ":"+kindToken) {
			t.Errorf("a token was kept: %s", keys)
		}
	})
}

func TestLimitsCostNoRoundTrip(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		three := []Charge{PerUser("ada", hourly(100)), PerAddress(netip.MustParseAddr("192.0.2.1"), hourly(100)), PerPeer(peer, hourly(100))}
		if _, err := f.Mint(t.Context(), grant(), three...); err != nil { // the first connection
			t.Fatal(err)
		}
		f.wantTrips(t, 1, func() {
			if _, err := f.Mint(t.Context(), grant(), three...); err != nil {
				t.Error(err)
			}
		})
		f.wantTrips(t, 1, func() {
			if err := f.Spend(t.Context(), three...); err != nil {
				t.Error(err)
			}
		})
		f.wantTrips(t, 0, func() {
			if err := f.Spend(t.Context(), PerUser("ada", gateway.Rate{}), PerPeer(peer, gateway.Rate{})); err != nil {
				t.Error(err)
			}
		})
		b := limited(f.Site, Limits{Jumps: hourly(100)})
		f.wantTrips(t, 1, func() { b.plant(t, "/1") })
		j := b.plant(t, "/2")
		f.wantTrips(t, 1, func() {
			if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant(), three...); err != nil || !won {
				t.Error(won, err)
			}
		})
	})
}

func TestAnAddressPlantsNoMoreJumpsThanItsLimit(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		limits := Limits{Jumps: hourly(3)}
		plant := func(b *browser, addr string) error {
			r := b.request()
			r.RemoteAddr = addr
			session := b.Open(r, cookieName)
			if _, err := b.Plant(session, Jump{Peer: peer, Wantsurl: "/x"}); err != nil {
				t.Fatal(err)
			}
			return b.save(t, r, session)
		}
		known := limited(f.Site, limits)
		for i := range 2 { // the cookie of a session is no way around it
			if err := plant(known, "[2001:db8::1]:1"); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := plant(limited(f.Site, limits), "[2001:db8::ffff]:2"); err != nil {
			t.Fatal(err)
		}
		for _, b := range []*browser{known, limited(f.Site, limits)} {
			before := len(f.keys(t))
			if rule, after := refusal(t, plant(b, "[2001:db8:0:0:1::]:3")); rule != gateway.RuleRateAddress || after <= 0 || after > 20*time.Minute {
				t.Errorf("one too many of a network: %q, %s", rule, after)
			}
			if after := len(f.keys(t)); after != before {
				t.Errorf("a refused jump leaves something: %d keys, before %d", after, before)
			}
		}
		if got := len(known.jumps(t)); got != 2 {
			t.Errorf("%d jumps wait", got)
		}
		if err := plant(limited(f.Site, limits), "[2001:db8:0:1::]:3"); err != nil {
			t.Errorf("the next network: %v", err)
		}
		// What plants nothing is no jump.
		if err := known.write(t, "k", "v"); err != nil {
			t.Errorf("another field: %v", err)
		}
	})
}

func TestAClaimThatALimitRefusesLeavesTheJump(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		b := newBrowser(f.Site)
		j, per := b.plant(t, "/1"), PerUser("ada", hourly(1))
		if err := f.Spend(t.Context(), per); err != nil {
			t.Fatal(err)
		}
		token, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant(), per)
		if rule, _ := refusal(t, err); rule != gateway.RuleRateUser || won || token != "" {
			t.Fatalf("%q, won %v, token %q", rule, won, token)
		}
		if _, won, err := f.Claim(t.Context(), b.cookie.Value, random(jumpIDLength), "login", grant(), PerUser("eve", hourly(1))); won || err != nil {
			t.Errorf("no such jump: %v, %v", won, err)
		}
		if err := f.Spend(t.Context(), PerUser("eve", hourly(1))); err != nil {
			t.Errorf("a claim of nothing was charged: %v", err)
		}
		f.clock.advance(JumpLife - time.Minute)
		if _, won, err := f.Claim(t.Context(), b.cookie.Value, j.ID, "login", grant(), PerUser("ada", gateway.Rate{})); err != nil || !won {
			t.Errorf("the jump is gone: %v, %v", won, err)
		}
	})
}

func TestManyAtOnceGetNoMoreThanTheLimit(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		sites := []*Site{f.Site, f.again()}
		var minted, refused atomic.Int32
		var all sync.WaitGroup
		for i := range 60 {
			all.Go(func() {
				_, err := sites[i%2].Mint(t.Context(), grant(), PerUser("ada", hourly(20)))
				if _, ok := errors.AsType[*RateError](err); ok {
					refused.Add(1)
				} else if err == nil {
					minted.Add(1)
				} else {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if minted.Load() != 20 || refused.Load() != 40 {
			t.Errorf("%d minted, %d refused", minted.Load(), refused.Load())
		}
	})
}

// A charge that Redis forgets too early would be a limit that lets more through;
// one that it keeps for ever would fill it.
func TestALimitIsKeptAsLongAsItMatters(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		still := time.Now()
		f.r.now = func() time.Time { return still }
		for i := range 3 {
			if err := f.Spend(t.Context(), PerUser("ada", gateway.Rate{N: 60, Per: time.Minute, Burst: 100})); err != nil {
				t.Fatal(err)
			}
			ttl := f.r.client.PTTL(t.Context(), f.key("rate-user:", "ada")).Val()
			want := time.Duration(i+1) * time.Second
			if ttl > want || ttl < want-900*time.Millisecond {
				t.Errorf("after %d: kept for %s", i+1, ttl)
			}
		}
	})
}

func TestTheLargestRatesAreCountedExactly(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		still := time.Now()
		f.r.now = func() time.Time { return still }
		slow := PerUser("ada", gateway.Rate{N: 1, Per: time.Hour, Burst: 1e6})
		fast := PerUser("bob", gateway.Rate{N: 1e6, Per: time.Second, Burst: 1e6})
		key := f.key("rate-user:", "ada")
		// As if all but two of a century's worth were gone.
		due := micros(still) + (1e6-2)*time.Hour.Microseconds()
		if err := f.r.client.Set(t.Context(), key, due, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := f.Spend(t.Context(), fast); err != nil {
				t.Fatal(err)
			}
			rule, after := refusal(t, f.Spend(t.Context(), slow))
			if i < 2 && rule != "" || i == 2 && (rule == "" || after != time.Hour) {
				t.Errorf("number %d: %q, %s", i+1, rule, after)
			}
		}
	})
}

func TestWhatIsNoTimeCountsAsNothingCharged(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		if err := f.r.client.Set(t.Context(), f.key("rate-user:", "ada"), "nonsense", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := f.Spend(t.Context(), PerUser("ada", hourly(1))); err != nil {
			t.Error(err)
		}
		if rule, _ := refusal(t, f.Spend(t.Context(), PerUser("ada", hourly(1)))); rule == "" {
			t.Error("and goes on to do so")
		}
	})
}

// Nobody is shut out for what was charged under a larger limit, or by a gateway
// whose clock is ahead, and the limit holds from then on.
func TestALimitThatBecomesSmallerHoldsAtOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		small := PerUser("ada", gateway.Rate{N: 60, Per: time.Minute, Burst: 2})
		for name, before := range map[string]func(){
			"a larger limit": func() {
				for range 50 {
					if err := f.Spend(t.Context(), PerUser("ada", hourly(100))); err != nil {
						t.Fatal(err)
					}
				}
			},
			"another clock": func() {
				f.clock.advance(10 * time.Minute)
				if err := f.Spend(t.Context(), small); err != nil {
					t.Fatal(err)
				}
				f.clock.advance(-10 * time.Minute)
			},
		} {
			before()
			if err := f.Spend(t.Context(), small); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if rule, after := refusal(t, f.Spend(t.Context(), small)); rule == "" || after > time.Second {
				t.Errorf("%s, and then: %q, %s", name, rule, after)
			}
			f.r.client.Del(t.Context(), f.key("rate-user:", "ada"))
		}
	})
}

func TestClocksThatDifferALittleLetNobodyThrough(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		still := time.Now()
		f.r.now = func() time.Time { return still }
		per, through := PerUser("ada", gateway.Rate{N: 60, Per: time.Minute, Burst: 3}), 0
		for i := range 20 { // by turns at two gateways
			still = still.Add(time.Duration(1-2*(i%2)) * 500 * time.Millisecond)
			if rule, _ := refusal(t, f.Spend(t.Context(), per)); rule == "" {
				through++
			}
		}
		if through != 3 {
			t.Errorf("%d got through", through)
		}
	})
}

// Sites count for themselves, and whoever holds a name cannot take it for
// another's limit.
func TestLimitsDoNotMeet(t *testing.T) {
	f := newFixture(t, Options{Addr: Embedded})
	for i, c := range []Charge{
		PerUser("192.0.2.1", hourly(1)), PerAddress(netip.MustParseAddr("192.0.2.1"), hourly(1)), PerUser(peer.String(), hourly(1)), PerPeer(peer, hourly(1)),
		PerUser("", hourly(1)), PerUser("user:192.0.2.1", hourly(1)), PerUser("} x", hourly(1)),
	} {
		if err := f.Spend(t.Context(), c); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if err := f.r.Site(mustWwwroot("https://other.example")).Spend(t.Context(), PerUser("192.0.2.1", hourly(1))); err != nil {
		t.Errorf("another site: %v", err)
	}
	if rule, _ := refusal(t, f.Spend(t.Context(), PerAddress(netip.MustParseAddr("::ffff:192.0.2.1"), hourly(1)))); rule != gateway.RuleRateAddress {
		t.Errorf("the same address: %q", rule)
	}
}

func BenchmarkMintWithLimits(b *testing.B) {
	rate := gateway.Rate{N: 1e6, Per: time.Second, Burst: 1e6}
	for _, test := range []struct {
		name    string
		charges func(i int) []Charge
	}{
		{"off", func(int) []Charge { return nil }},
		{"user+address", func(i int) []Charge {
			return []Charge{PerUser(fmt.Sprint(i%5000), rate), PerAddress(netip.MustParseAddr("192.0.2.1"), rate)}
		}},
		{"all", func(i int) []Charge {
			return []Charge{PerUser(fmt.Sprint(i%5000), rate), PerAddress(netip.MustParseAddr("192.0.2.1"), rate), PerPeer(peer, rate)}
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			benchEach(b, func(b *testing.B, f fixture) {
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if _, err := f.Mint(b.Context(), grant(), test.charges(i)...); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		})
	}
}
