package sp_test

import (
	"sync"

	"testing"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"

	"jumpgate/gateway/store"
	"jumpgate/sp"
)

var sharedRedis = sync.OnceValues(func() (*store.Redis, error) { return store.Open(store.Options{Addr: store.Embedded}) })

// newVisits are those of https://forum.test, in a Redis of all tests.
func newVisits(t testing.TB, peers *gateway.Allowlist) *sp.Visits {
	t.Helper()
	redis, err := sharedRedis()
	if err != nil {
		t.Fatal(err)
	}
	return &sp.Visits{
		Site: wwwroot(t, "https://forum.test"), Peers: peers, Cookie: "MoodleSession", Life: 8 * time.Hour,
		Store: redis.Site(wwwroot(t, "https://forum.test")), Secrets: func() [][32]byte { return [][32]byte{{2}} }, Now: time.Now,
		Children: mnet.NewChildren(func(mnet.Logout) {}, nil),
	}
}
