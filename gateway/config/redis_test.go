package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestARedisIsWrittenInManyForms(t *testing.T) {
	testDir(t)
	t.Setenv("JUMPGATE_TEST_PASSWORD", "hunter2")
	withTLS := &ServerTLS{}
	for written, want := range map[string]*Redis{
		"embedded":                   {Embedded: true},
		"redis://localhost":          {Addresses: []string{"localhost:6379"}},
		"redis://127.0.0.1:7000/2":   {Addresses: []string{"127.0.0.1:7000"}, Database: 2},
		"redis://app@[::1]/":         {Addresses: []string{"[::1]:6379"}, Username: "app"},
		"rediss://redis.example.org": {Addresses: []string{"redis.example.org:6379"}, TLS: withTLS},
		"unix:///run/redis.sock":     {Addresses: []string{"/run/redis.sock"}},
		"{url: 'redis://app@a/1', password_env: JUMPGATE_TEST_PASSWORD}": {
			Addresses: []string{"a:6379"}, Database: 1, Username: "app",
			Password: "hunter2", PasswordEnv: "JUMPGATE_TEST_PASSWORD"},
		"{addresses: [a], tls: {}}":                  {Addresses: []string{"a:6379"}, TLS: withTLS},
		"{addresses: [/run/redis.sock]}":             {Addresses: []string{"/run/redis.sock"}},
		"{addresses: ['::1', 'b:1'], cluster: true}": {Addresses: []string{"[::1]:6379", "b:1"}, Cluster: true},
		"{addresses: [a], master_name: m}":           {Addresses: []string{"a:26379"}, MasterName: "m"},
	} {
		c := load(t, "redis: "+written+minimal)
		if diff := cmp.Diff(want, c.Redis, compare); diff != "" {
			t.Errorf("%s (-want +got):\n%s", written, diff)
		}
		if room := c.Limits.PendingJumpsPerSite; (room == 10000) != want.Embedded {
			t.Errorf("%s has room for %d jumps", written, room)
		}
	}
}

func TestASingleRedisHasAURL(t *testing.T) {
	for want, r := range map[string]*Redis{
		"embedded":                {Embedded: true},
		"redis://[::1]:6379":      {Addresses: []string{"[::1]:6379"}, Username: "app", Password: "hunter2", Database: 3},
		"unix:///run/redis%20one": {Addresses: []string{"/run/redis one"}},
		"":                        {Addresses: []string{"a:1"}, Cluster: true},
	} {
		if got := r.URL(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTheIdentitySourceFollowsFromTheRedis(t *testing.T) {
	testDir(t)
	for _, c := range []struct{ name, file, source, redis string }{
		{"embedded: ask Moodle", minimal, "moodle-web", ""},
		{"a Redis of ours: it has Moodle's sessions too", "redis: redis://ours" + minimal, "moodle-redis", "ours:6379"},
		{"a Redis of Moodle's", minimal + "    identity: {redis: 'redis://theirs'}\n", "moodle-redis", "theirs:6379"},
		{"both", "redis: redis://ours" + minimal + "    identity: {redis: 'redis://theirs'}\n", "moodle-redis", "theirs:6379"},
		{"Moodle keeps its sessions elsewhere", "redis: redis://ours" + minimal + "    identity: {source: moodle-web}\n", "moodle-web", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := load(t, c.file)
			id := cfg.Sites[0].Identity
			redis := ""
			if id.Redis != nil {
				redis = id.Redis.Addresses[0]
			}
			if id.Source != c.source || redis != c.redis {
				t.Errorf("got %s at %q, want %s at %q", id.Source, redis, c.source, c.redis)
			}
			if redis == "ours:6379" && id.Redis != cfg.Redis {
				t.Error("the same Redis is there twice: nobody could share its connections")
			}
		})
	}
}
