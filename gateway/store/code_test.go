package store

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestACodeIsRedeemedOnce(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		var code, access string
		f.wantTrips(t, 1, func() {
			var err error
			if code, err = f.IssueCode(t.Context(), []byte(`{"sub":"ada lovelace"}`)); err != nil || len(code) != 40 {
				t.Fatal(code, err)
			}
		})
		f.wantTrips(t, 2, func() {
			record, token, err := f.RedeemCode(t.Context(), code)
			if access = token; string(record) != `{"sub":"ada lovelace"}` || len(access) != 40 || access == code || err != nil {
				t.Errorf("%s, %s, %v", record, access, err)
			}
		})
		if record, token, err := f.RedeemCode(t.Context(), code); record != nil || token != "" || !errors.Is(err, ErrNoToken) {
			t.Errorf("a second time: %s, %s, %v", record, token, err)
		}
		if record, err := f.again().Access(t.Context(), access); len(record) == 0 || err != nil {
			t.Errorf("at another gateway: %s, %v", record, err)
		}
		for range 2 {
			f.wantTrips(t, 1, func() {
				if record, err := f.Access(t.Context(), access); string(record) != `{"sub":"ada lovelace"}` || err != nil {
					t.Errorf("%s, %v", record, err)
				}
			})
		}
		for _, key := range f.keys(t) {
			if strings.Contains(key, code) || strings.Contains(key, access) {
				t.Errorf("a secret is in Redis: %s", key)
			}
		}
		f.wantTrips(t, 0, func() {
			_, _, err := f.RedeemCode(t.Context(), "*")
			if _, err2 := f.Access(t.Context(), ""); !errors.Is(err, ErrNoToken) || !errors.Is(err2, ErrNoToken) {
				t.Error(err, err2)
			}
		})
		for name, secret := range map[string]string{"a code": access, "one that nobody has": random(40)} {
			if record, _, err := f.RedeemCode(t.Context(), secret); record != nil || !errors.Is(err, ErrNoToken) {
				t.Errorf("for %s: %s, %v", name, record, err)
			}
		}
		if record, err := f.Access(t.Context(), code); record != nil || !errors.Is(err, ErrNoToken) {
			t.Errorf("a code is no access token: %s, %v", record, err)
		}
		if _, err := f.IssueCode(t.Context(), make([]byte, maxGrant+1)); err == nil {
			t.Error("a record may be of any size")
		}

		late, err := f.IssueCode(t.Context(), []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		f.clock.advance(CodeLife + time.Millisecond)
		if record, _, err := f.RedeemCode(t.Context(), late); record != nil || !errors.Is(err, ErrNoToken) {
			t.Errorf("when its time is over: %s, %v", record, err)
		}
		f.clock.advance(AccessLife)
		if record, err := f.Access(t.Context(), access); record != nil || !errors.Is(err, ErrNoToken) {
			t.Errorf("when the time of the access token is over: %s, %v", record, err)
		}
	})
}

func TestAMailAddressIsClaimedByOne(t *testing.T) {
	eachRedis(t, func(t *testing.T, f fixture) {
		for _, step := range []struct {
			mail, subject string
			want          bool
		}{
			{"ada@home.test", "https://home.test#ada", true},
			{"ada@home.test", "https://other.test#ada", false},
			{"Ada@Home.test", "https://other.test#ada", false},
			{"ada@home.test", "https://home.test#ada", true},
			{"ada@other.test", "https://other.test#ada", true},
		} {
			f.wantTrips(t, 1, func() {
				if got, err := f.ClaimMail(t.Context(), step.mail, step.subject); got != step.want || err != nil {
					t.Errorf("%s by %s: %t, %v", step.mail, step.subject, got, err)
				}
			})
		}
		key := f.key(kindClaimed, hash("ada@home.test"))
		if life, err := f.r.client.PTTL(t.Context(), key).Result(); life <= 0 || life > CodeLife+AccessLife || err != nil {
			t.Errorf("it lasts for %v, %v", life, err)
		}
		for _, key := range f.keys(t) {
			if strings.Contains(key, "@") {
				t.Errorf("a mail address is in Redis: %s", key)
			}
		}
		if err := f.r.client.Del(t.Context(), key).Err(); err != nil { // its time is over
			t.Fatal(err)
		}
		if got, err := f.again().ClaimMail(t.Context(), "ada@home.test", "https://other.test#ada"); !got || err != nil {
			t.Errorf("afterwards, at another gateway: %t, %v", got, err)
		}
	})
}
