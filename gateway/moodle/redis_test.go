package moodle

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
	"jumpgate/gateway/store/redistest"
)

const (
	testSID = "5vdthgsm41k8r5gcl1hos6gs1f"
	testNow = 1_800_000_000
)

// onEveryRedis runs a test against miniredis and, if it is installed, a real
// redis-server.
func onEveryRedis(t *testing.T, test func(t *testing.T, client *redis.Client)) {
	t.Run("miniredis", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaxRetries: -1})
		t.Cleanup(func() { _ = client.Close() })
		test(t, client)
	})
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t)) })
}

func realRedis(t *testing.T) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: redistest.Socket(t)})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// as opens another connection to the same server under an ACL user.
func as(t *testing.T, client *redis.Client, user, rules string) *redis.Client {
	t.Helper()
	args := []any{"ACL", "SETUSER", user, "on", ">secret", "resetkeys"}
	for rule := range strings.FieldsSeq(rules) {
		args = append(args, rule)
	}
	if err := client.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	o := *client.Options()
	o.Username, o.Password = user, "secret"
	o.DisableIdentity = true
	limited := redis.NewClient(&o)
	t.Cleanup(func() { _ = limited.Close() })
	return limited
}

// roundTrips counts what a client sends, connecting aside.
type roundTrips struct{ n, commands atomic.Int64 }

func (h *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.count(cmd)
		return next(ctx, cmd)
	}
}

func (h *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.count(cmds...)
		return next(ctx, cmds)
	}
}

func (h *roundTrips) count(cmds ...redis.Cmder) {
	if name := cmds[0].Name(); name == "hello" || name == "client" || name == "auth" {
		return // a new connection introduces itself
	}
	h.n.Add(1)
	h.commands.Add(int64(len(cmds)))
}

func (h *roundTrips) expect(t *testing.T, n, commands int64) {
	t.Helper()
	if gotN, gotC := h.n.Swap(0), h.commands.Swap(0); gotN != n || gotC != commands {
		t.Errorf("%d commands in %d round trips, want %d in %d", gotC, gotN, commands, n)
	}
}

func sessions(client redis.UniversalClient, prefix string, now int64) *RedisSessions {
	return NewRedisSessions(RedisOptions{
		Client: client, Prefix: prefix, Now: func() time.Time { return time.Unix(now, 0) },
	})
}

func identity(t *testing.T, source interface {
	Identity(context.Context, Browser) (gateway.Identity, error)
}, sid string) gateway.Identity {
	t.Helper()
	id, err := source.Identity(t.Context(), Browser{Session: sid})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestRedisSessionsReadsEveryRecordedHash(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		for name, r := range recordings(t) {
			if r.Hash == nil {
				continue
			}
			key := r.Prefix + "session_" + r.SID
			client.Del(t.Context(), key)
			client.HSet(t.Context(), key, "sessdata", r.Raw)
			for field, value := range r.Hash {
				client.HSet(t.Context(), key, field, value)
			}
			modified, err := decodeInt(string(r.Hash["timemodified"]))
			if err != nil || modified == 0 {
				t.Fatal(name, modified, err)
			}
			want := gateway.Identity{}
			if r.Summary.UserID != 0 {
				want = gateway.Identity{User: r.user(), Remote: r.Summary.Remote, Guest: r.Summary.Guest, LoginAs: r.Summary.LoginAs}
			}
			got := identity(t, sessions(client, r.Prefix, modified+8*3600), r.SID)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			if got := identity(t, sessions(client, r.Prefix, modified+8*3600+1), r.SID); got != (gateway.Identity{}) {
				t.Errorf("%s: after the session timeout: %+v", name, got)
			}
		}
	})
}

func TestRedisSessionsReadsTheStringsOf41(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		trips := new(roundTrips)
		source := sessions(client, "mdl41_", testNow)
		for _, name := range []string{"learner", "learner-4.1-gzip", "learner-4.1-igbinary", "loginas", "anonymous"} {
			r := recordings(t)[name]
			client.Set(t.Context(), "mdl41_"+testSID, r.Raw, 0)
			if name == "learner" {
				client.AddHook(trips)
			}
			trips.n.Store(0)
			trips.commands.Store(0)
			got := identity(t, source, testSID)
			trips.expect(t, 1, 2)
			if got.User.ID != r.Summary.UserID || got.LoginAs != r.Summary.LoginAs {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})
}

// moodleHash is a session as the 4.5 handler writes it, with fields replaced.
func moodleHash(t *testing.T, client *redis.Client, replace map[string]string) {
	t.Helper()
	fields := map[string]string{
		"id": `s:26:"` + testSID + `";`, "sid": `s:26:"` + testSID + `";`,
		"state": `s:1:"0";`, "userid": "i:3;", "timecreated": "i:1799999000;", "timemodified": "i:1799999000;",
		"sessdata": string(recordings(t)["learner"].Raw), "firstip": `s:9:"127.0.0.1";`, "lastip": `s:9:"127.0.0.1";`,
	}
	for field, value := range replace {
		if fields[field] = value; value == "" {
			delete(fields, field)
		}
	}
	client.Del(t.Context(), "p_session_"+testSID)
	if err := client.HSet(t.Context(), "p_session_"+testSID, fields).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRedisSessionsKnowsNobodysSessions(t *testing.T) {
	tests := map[string]map[string]string{
		"half written":                          {"sessdata": "N;"},
		"half written by igbinary":              {"sessdata": "\x00\x00\x00\x02\x00", "userid": "\x00\x00\x00\x02\x06\x03"},
		"not written":                           {"sessdata": ""},
		"too old":                               {"timemodified": "i:1799971199;"},
		"without its time":                      {"timemodified": ""},
		"in a state that Moodle does not know":  {"state": `s:1:"1";`},
		"of another user than it says":          {"userid": "i:2;"},
		"of nobody, says the hash":              {"userid": "i:0;"},
		"of nobody, says its text":              {"sessdata": string(recordings(t)["anonymous"].Raw)},
		"without its user":                      {"userid": ""},
		"worn by another than the hash says":    {"sessdata": string(recordings(t)["loginas"].Raw)},
		"worn by another than the hash says, 4": {"sessdata": string(recordings(t)["loginas"].Raw), "userid": "i:4;"},
	}
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		source := sessions(client, "p_", testNow)
		for name, replace := range tests {
			moodleHash(t, client, replace)
			if got := identity(t, source, testSID); got != (gateway.Identity{}) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		client.FlushAll(t.Context())
		if got := identity(t, source, testSID); got != (gateway.Identity{}) {
			t.Errorf("absent: %+v", got)
		}
		moodleHash(t, client, nil)
		if got := identity(t, source, testSID); got.User.Username != "learner1" {
			t.Errorf("as written: %+v", got)
		}
		moodleHash(t, client, map[string]string{"userid": `s:1:"3";`, "state": "", "timemodified": "i:1799971200;"})
		if got := identity(t, source, testSID); got.User.Username != "learner1" {
			t.Errorf("at the last second: %+v", got)
		}
	})
}

func TestRedisSessionsNeverAsksForWhatIsNoSessionID(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	source := sessions(client, "p_", testNow)
	for _, sid := range []string{
		"", "short", strings.Repeat("a", 21), strings.Repeat("a", 257), testSID + "\r\n", testSID + ".lock",
		testSID + "_", testSID + "\x00", "ü" + testSID, "{" + testSID + "}", testSID + "*",
	} {
		if id, err := source.Identity(t.Context(), Browser{Session: sid}); err != nil || id != (gateway.Identity{}) {
			t.Errorf("%q: %+v, %v", sid, id, err)
		}
	}
	if _, err := source.Identity(t.Context(), Browser{Session: testSID}); err == nil || strings.Contains(err.Error(), testSID) {
		t.Errorf("a redis that is down: %v", err)
	}
}

func TestRedisSessionsReportsWhatItCannotRead(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		source := sessions(client, "p_", testNow)
		for name, replace := range map[string]map[string]string{
			"sessdata": {"sessdata": `s:10:"USER|q;";`}, "userid": {"userid": "3"}, "state": {"state": `s:1:"x";`},
			"timemodified": {"timemodified": "a:0:{}"},
		} {
			moodleHash(t, client, replace)
			if id, err := source.Identity(t.Context(), Browser{Session: testSID}); err == nil || strings.Contains(err.Error(), testSID) {
				t.Errorf("%s: %+v, %v", name, id, err)
			}
		}
		client.FlushAll(t.Context())
		client.Set(t.Context(), "p_session_"+testSID, "x", 0)
		if id, err := source.Identity(t.Context(), Browser{Session: testSID}); err == nil {
			t.Errorf("a string where a hash should be: %+v", id)
		}
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if id, err := source.Identity(canceled, Browser{Session: testSID}); err == nil {
			t.Errorf("a request that ended: %+v", id)
		}
	})
}

// A Redis that lacks a command quotes what it was asked for.
func TestRedisSessionsTellsNoSessionOfWhatRedisRefuses(t *testing.T) {
	server := miniredis.RunT(t)
	server.SetError("ERR unknown command 'hmget', with args beginning with: 'p_session_" + testSID + "' 'userid' 'state' ")
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1})
	defer client.Close()
	source := sessions(client, "p_", testNow)
	for range 2 { // for both layouts, and for hashes alone
		_, identity := source.Identity(t.Context(), Browser{Session: testSID})
		for what, err := range map[string]error{"identity": identity, "touch": source.Touch(t.Context(), []Owned{{Session: testSID, UserID: 3}})} {
			if err == nil || strings.Contains(err.Error(), testSID) || !strings.Contains(err.Error(), "unknown command 'hmget'") {
				t.Errorf("%s: %v", what, err)
			}
		}
		source.hashesOnly.Store(true)
	}
}

func TestRedisSessionsCostsOneRoundTrip(t *testing.T) {
	onEveryRedis(t, func(t *testing.T, client *redis.Client) {
		moodleHash(t, client, nil)
		client.HSet(t.Context(), "p_"+testSID, "not", "a session") // WRONGTYPE
		trips := new(roundTrips)
		client.AddHook(trips)
		source := sessions(client, "p_", testNow)
		identity(t, source, strings.Repeat("b", 26))
		trips.expect(t, 1, 2) // either layout
		if got := identity(t, source, testSID); got.User.ID != 3 {
			t.Errorf("%+v", got)
		}
		trips.expect(t, 1, 2)
		if got := identity(t, source, testSID); got.User.ID != 3 {
			t.Errorf("%+v", got)
		}
		trips.expect(t, 1, 1) // a hash was seen: 4.5 or newer
		identity(t, source, strings.Repeat("b", 26))
		trips.expect(t, 1, 1)
	})
}

func TestRedisSessionsNeedsNoMoreThanTheDocumentedRights(t *testing.T) {
	admin := realRedis(t)
	limited := as(t, admin, "gateway", "%R~p_session_* +hmget")
	trips := new(roundTrips)
	limited.AddHook(trips)
	source := sessions(limited, "p_", testNow)
	for range 5 {
		if got := identity(t, source, testSID); got != (gateway.Identity{}) {
			t.Errorf("no session yet: %+v", got)
		}
	}
	trips.expect(t, 5, 6)
	moodleHash(t, admin, nil)
	if got := identity(t, source, testSID); got.User.Username != "learner1" {
		t.Errorf("%+v", got)
	}
	log, err := admin.Do(t.Context(), "ACL", "LOG").Slice()
	if err != nil || len(log) > 1 {
		t.Errorf("%d entries in the ACL log, %v", len(log), err)
	}

	old := as(t, admin, "gateway41", "%R~mdl41_* +hmget +get")
	admin.Set(t.Context(), "mdl41_"+testSID, recordings(t)["learner"].Raw, 0)
	if got := identity(t, sessions(old, "mdl41_", testNow), testSID); got.User.Username != "learner1" {
		t.Errorf("4.1: %+v", got)
	}

	none := as(t, admin, "nothing", "%R~other_* +hmget")
	if id, err := sessions(none, "p_", testNow).Identity(t.Context(), Browser{Session: testSID}); err == nil {
		t.Errorf("without rights: %+v", id)
	}
}
