package moodle

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

// What phpredis wrote with each of its serialisers: user 3, and two times.
const (
	igbinary3       = "\x00\x00\x00\x02\x06\x03"
	igbinaryLongAgo = "\x00\x00\x00\x02\x0a\x6b\x49\xd1\xeb" // testNow - 21 s
	igbinaryNow     = "\x00\x00\x00\x02\x0a\x6b\x49\xd2\x00"
)

// touchable is a session of user 3 that was last used 21 seconds ago.
func touchable() map[string]string {
	return map[string]string{"userid": "i:3;", "state": `s:1:"0";`, "timemodified": "i:1799999979;", "sessdata": "N;"}
}

func TestTouch(t *testing.T) {
	change := func(field, value string) map[string]string {
		s := touchable()
		s[field] = value
		return s
	}
	igbinary := map[string]string{"userid": igbinary3, "state": "\x00\x00\x00\x02\x11\x010", "timemodified": igbinaryLongAgo, "sessdata": "\x00\x00\x00\x02\x00"}
	for name, tt := range map[string]struct {
		session map[string]string
		want    string // timemodified
	}{
		"a session used 21 seconds ago":        {touchable(), "i:1800000000;"},
		"with igbinary":                        {igbinary, igbinaryNow},
		"used 20 seconds ago":                  {change("timemodified", "i:1799999980;"), "i:1799999980;"},
		"used in a future":                     {change("timemodified", "i:1800000100;"), "i:1800000100;"},
		"almost over":                          {change("timemodified", "i:1799971200;"), "i:1800000000;"},
		"over":                                 {change("timemodified", "i:1799971199;"), "i:1799971199;"},
		"of another user":                      {change("userid", "i:4;"), "i:1799999979;"},
		"of nobody":                            {change("userid", "i:0;"), "i:1799999979;"},
		"closed":                               {change("state", "i:9;"), "i:1799999979;"},
		"with a time that is none":             {change("timemodified", "i:12"), "i:12"},
		"of which there is nothing but a time": {map[string]string{"timemodified": "i:1799999979;"}, "i:1799999979;"},
	} {
		t.Run(name, func(t *testing.T) {
			onEveryRedis(t, func(t *testing.T, client *redis.Client) {
				ctx, key, user := t.Context(), "mdl_session_"+testSID, "mdl_user_3"
				must := func(err error) {
					if t.Helper(); err != nil {
						t.Fatal(err)
					}
				}
				must(client.HSet(ctx, key, tt.session).Err())
				must(client.HSet(ctx, user, testSID, "i:1;").Err())
				must(client.Expire(ctx, key, time.Hour).Err())
				must(client.Expire(ctx, user, time.Hour).Err())
				r := NewRedisSessions(RedisOptions{Client: client, Prefix: "mdl_", Now: func() time.Time { return time.Unix(testNow, 0) }})
				must(r.Touch(ctx, []Owned{{testSID, 3}, {strings.Repeat("x", 26), 3}, {"../../x", 3}}))

				got, err := client.HGetAll(ctx, key).Result()
				must(err)
				want := maps.Clone(tt.session)
				want["timemodified"] = tt.want
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the session (-want +got)\n%s", diff)
				}
				life := time.Hour
				if tt.want != tt.session["timemodified"] {
					life = 8*time.Hour + 80*time.Second
				}
				for _, k := range []string{key, user} {
					if ttl := client.TTL(ctx, k).Val(); ttl > life || ttl < life-time.Minute {
						t.Errorf("%s lives for %s, want %s", k, ttl, life)
					}
				}
				if n := client.DBSize(ctx).Val(); n != 2 {
					t.Errorf("%d keys", n)
				}
			})
		})
	}
}

func TestTouchLeavesTheStringsOfMoodle41Alone(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		if err := client.Set(t.Context(), testSID, "text", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		if err := NewRedisSessions(RedisOptions{Client: client}).Touch(t.Context(), []Owned{{testSID, 3}}); err != nil {
			t.Fatal(err)
		}
		if ttl := client.TTL(t.Context(), testSID).Val(); ttl > time.Hour {
			t.Errorf("it lives for %s", ttl)
		}
	})
}

func TestTouchWritesNothingIfMoodleWasFaster(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		ctx, key := t.Context(), "session_"+testSID
		for name, session := range map[string]map[string]string{
			"used":    {"userid": "i:3;", "timemodified": "i:1799999999;"},
			"another": {"userid": "i:4;", "timemodified": "i:1799999979;"},
			"gone":    nil,
		} {
			client.Del(ctx, key)
			if session != nil {
				client.HSet(ctx, key, session)
			}
			touched, err := scriptTouch.Run(ctx, client, []string{key}, "i:3;", "i:1799999979;", "i:1800000000;", 100).Int()
			if err != nil || touched != 0 {
				t.Errorf("%s: touched %d, %v", name, touched, err)
			}
			if got := client.HGetAll(ctx, key).Val(); len(got) != len(session) || got["timemodified"] != session["timemodified"] {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}

func TestTouchCostsThreeRoundTripsForAllSessions(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		var sessions []Owned
		for i := range 50 {
			s := Owned{testSID[:25] + string(rune('a'+i%26)) + strings.Repeat("x", i/26), 3}
			sessions = append(sessions, s)
			if err := client.HSet(t.Context(), "session_"+s.Session, touchable()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := scriptTouch.Load(t.Context(), client).Err(); err != nil {
			t.Fatal(err)
		}
		trips := &roundTrips{}
		client.AddHook(trips)
		r := NewRedisSessions(RedisOptions{Client: client, Now: func() time.Time { return time.Unix(testNow, 0) }})
		for _, want := range []int64{3, 4} { // the second time nothing is due
			if err := r.Touch(t.Context(), sessions); err != nil {
				t.Fatal(err)
			}
			if n := trips.n.Load(); n != want {
				t.Errorf("%d round trips, want %d", n, want)
			}
		}
	})
}

func TestTouchNeedsTheRightsThatAreDocumented(t *testing.T) {
	client := realRedis(t)
	const rights = "%RW~mdl_session_* %W~mdl_user_* +evalsha +eval +hmget +hset +expire"
	for name, tt := range map[string]struct {
		rules string
		clear bool // an error that says what is missing
	}{
		"as documented":            {rights, false},
		"to read":                  {"%R~mdl_session_* +hmget", true},
		"to read, and scripts":     {"%R~mdl_session_* +evalsha +eval +hmget +hset +expire", true},
		"to all but write":         {strings.Replace(rights, "+hset ", "", 1), true},
		"to all but prolong":       {strings.Replace(rights, "+expire", "", 1), true},
		"to sessions, not to user": {strings.Replace(rights, "%W~mdl_user_* ", "", 1), true},
		"to nothing":               {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			client.FlushAll(t.Context())
			client.ScriptFlush(t.Context())
			if err := client.HSet(t.Context(), "mdl_session_"+testSID, touchable()).Err(); err != nil {
				t.Fatal(err)
			}
			user := strings.ReplaceAll(name, " ", "")
			r := NewRedisSessions(RedisOptions{
				Client: as(t, client, user, tt.rules), Prefix: "mdl_", Now: func() time.Time { return time.Unix(testNow, 0) },
			})
			err := r.Touch(t.Context(), []Owned{{testSID, 3}})
			if tt.clear != (err != nil) || err != nil && !strings.Contains(err.Error(), "touch_sessions needs more rights") {
				t.Errorf("got %v", err)
			}
			modified := client.HGet(t.Context(), "mdl_session_"+testSID, "timemodified").Val()
			if !tt.clear && modified != "i:1800000000;" {
				t.Errorf("timemodified is %q", modified)
			}
		})
	}
}
