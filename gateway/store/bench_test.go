package store

import (
	"fmt"
	"net/http/httptest"
	"testing"
)

func benchEach(b *testing.B, run func(*testing.B, fixture)) {
	b.Run("embedded", func(b *testing.B) { b.ReportAllocs(); run(b, newFixture(b, Options{Addr: Embedded})) })
	b.Run("unix-socket", func(b *testing.B) { b.ReportAllocs(); run(b, newFixture(b, Options{Addr: sharedURL(b)})) })
}

func BenchmarkMint(b *testing.B) {
	benchEach(b, func(b *testing.B, f fixture) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := f.Mint(b.Context(), grant()); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func BenchmarkRedeem(b *testing.B) {
	benchEach(b, func(b *testing.B, f fixture) {
		tokens := make(chan string, b.N)
		for range b.N {
			token, err := f.Mint(b.Context(), grant())
			if err != nil {
				b.Fatal(err)
			}
			tokens <- token
		}
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := f.Redeem(b.Context(), nonce(), <-tokens, redeemer()); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

func BenchmarkPlant(b *testing.B) {
	benchEach(b, func(b *testing.B, f fixture) {
		learner := limited(f.Site, Limits{PerAddress: 1 << 30, PerSite: 1 << 30})
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				r := learner.request()
				session := learner.Open(r, cookieName)
				_, err := learner.Plant(session, Jump{Peer: peer, Wantsurl: fmt.Sprintf("/mod/forum/discuss.php?d=%d#p34", i)})
				if err == nil {
					err = session.Save(r, httptest.NewRecorder())
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
