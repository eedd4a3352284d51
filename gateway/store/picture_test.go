package store

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAPictureKeepsTheTimeOfItsRevision(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		redeem := func(id int64, revision string) Picture {
			t.Helper()
			g := grant()
			g.User.ID, g.User.Picture = id, revision
			token, err := f.Mint(t.Context(), g)
			if err != nil {
				t.Fatal(err)
			}
			if g, err = f.Redeem(t.Context(), nonce(), token, redeemer()); err != nil {
				t.Fatal(err)
			}
			kept, err := f.PictureOf(t.Context(), "ada")
			if diff := cmp.Diff(g.Picture, kept); diff != "" || err != nil {
				t.Errorf("told and kept differ, %v:\n%s", err, diff)
			}
			f.clock.advance(time.Minute)
			return g.Picture
		}
		for _, none := range []string{"", "0", "-1", "x", "1 2"} {
			if p := redeem(3, none); p != (Picture{}) {
				t.Errorf("picture %q is %+v", none, p)
			}
		}
		first := redeem(3, "10")
		if first.UserID != 3 || first.Revision != "10" || first.Since.Location() != time.UTC || f.clock.now().Sub(first.Since) > 2*time.Minute {
			t.Errorf("the first picture is %+v", first)
		}
		if again := redeem(3, "10"); again != first {
			t.Errorf("the same picture, later, is %+v", again)
		}
		second := redeem(3, "11")
		if second.Since.Sub(first.Since) < 2*time.Minute {
			t.Errorf("another picture is %+v", second)
		}
		if other := redeem(4, "11"); other.UserID != 4 || !other.Since.After(second.Since) {
			t.Errorf("a picture of another account of that name is %+v", other)
		}
		key := f.key(kindPicture, "ada")
		if ttl := f.r.client.PTTL(t.Context(), key).Val(); ttl > ReportLife || ttl < ReportLife-time.Minute {
			t.Errorf("kept for %s", ttl)
		}
		redeem(4, "0")
		if n := f.r.client.Exists(t.Context(), key).Val(); n != 0 {
			t.Error("a picture that was deleted is still known")
		}
		huge := strconv.FormatInt(1<<53, 10)
		if p := redeem(1<<53, huge); p.UserID != 1<<53 || p.Revision != huge {
			t.Errorf("the largest ids are %+v", p)
		}
	})
}
