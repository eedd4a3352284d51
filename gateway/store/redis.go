// Package store keeps Jumpgate's own state in Redis: tokens, browser sessions
// with their pending jumps, sessions of learners at peers, seen nonces and
// cached identities. It speaks to a
// single Redis (or Valkey), to Sentinel, to a Cluster, or to a server embedded
// in the process. Redis 6.2 or newer is enough.
//
// All keys of a site carry one hash tag, `jumpgate:{wwwroot}:…`, so that
// scripts and transactions work in a Cluster. Secrets (tokens, cookie values)
// never reach Redis: a key holds their SHA-256. The id of a Moodle session does
// so sealed, by the caller.
package store

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Embedded is the address of the server inside the process.
const Embedded = "embedded"

// Options says how to reach Redis.
type Options struct {
	// Addr is "embedded" or a redis://, rediss:// or unix:// URL.
	Addr string
	// Addrs are host:port pairs: of the sentinels if MasterName is set, else
	// of nodes of a Cluster. Addr must be empty then.
	Addrs      []string
	MasterName string
	// Cluster says that Addr or a single one of Addrs names a Cluster.
	Cluster bool

	// Username, Password and DB win over those of the URL.
	Username, Password                 string
	SentinelUsername, SentinelPassword string
	DB                                 int
	// TLS, if set, is used for every connection; rediss:// alone verifies
	// against the system's authorities.
	TLS *tls.Config
	// PoolSize bounds the connections per node; 0 means 10 per CPU.
	PoolSize int

	// Now is the clock by which records expire; nil means time.Now.
	Now func() time.Time
}

// Time limits of one operation. Redis is near; when it does not answer within
// these, a page that says so is better than a browser that waits.
const (
	dialTimeout = time.Second
	ioTimeout   = 500 * time.Millisecond
	poolTimeout = time.Second
	maxRetries  = 1
)

// Redis is a connection pool to our Redis. It is safe for concurrent use.
type Redis struct {
	client   redis.UniversalClient
	batched  redis.Cmdable // client, with the commands of concurrent callers in one pipeline
	embedded *embedded     // nil for a real server
	now      func() time.Time

	planted atomic.Int64 // when the last jump was planted, in µs

	down atomic.Bool   // what Watch found last
	wake chan struct{} // asks Watch to look now
}

func init() {
	// go-redis would print a line for every failed connection. Errors reach
	// our callers as values, and Watch logs the transitions.
	logging.Disable()
}

// Open makes a client. It does not connect: that Redis is down is no error
// here, only options that can never work are. Close ends the client.
func Open(o Options) (*Redis, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	r := &Redis{now: o.Now, wake: make(chan struct{}, 1)}
	if r.now == nil {
		r.now = time.Now
	}
	if o.Addr == Embedded {
		if r.embedded, err = startEmbedded(); err != nil {
			return nil, err
		}
		u.Dialer, u.ReadTimeout, u.WriteTimeout = r.embedded.dial, embeddedTimeout, embeddedTimeout
	}
	r.client = redis.NewUniversalClient(u)
	r.client.AddHook(watchHook{r})
	r.batched = r.client
	if r.embedded == nil {
		if r.batched, err = r.client.AutoPipeline(); err != nil {
			return nil, err
		}
	}
	if r.embedded != nil {
		r.embedded.run(r.client)
	}
	return r, nil
}

// Close closes all connections. An embedded server ends with all it holds.
func (r *Redis) Close() error {
	if r.embedded != nil {
		r.embedded.stopClock()
	}
	err := r.client.Close()
	if r.embedded != nil {
		r.embedded.close()
	}
	return err
}

// Client returns the client below, for commands that this package does not
// have. Its errors are not wrapped in ErrUnavailable. A pipeline sent to the
// embedded server must stay below 4,096 bytes: its connections do not buffer.
func (r *Redis) Client() redis.UniversalClient { return r.client }

// Batched returns the client with the commands of callers that come at the same
// time sent as one pipeline, which saves most of what a round trip costs the
// processor. A caller alone waits for nobody. It is for single commands on the
// hot paths.
func (r *Redis) Batched() redis.Cmdable { return r.batched }

// Ping asks Redis to take a write, not only to answer: a replica, a full
// memory or a failing disk keeps us from working just as well. The error wraps
// ErrUnavailable.
func (r *Redis) Ping(ctx context.Context) error {
	return fail("ping", r.client.Set(ctx, "jumpgate:ping", 1, 10*time.Second).Err())
}

func (o Options) universal() (*redis.UniversalOptions, error) {
	u := &redis.UniversalOptions{
		Addrs: o.Addrs, MasterName: o.MasterName, IsClusterMode: o.Cluster,
		Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLS,
		SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DialTimeout: dialTimeout, DialerRetries: 1,
		ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		MaxRetries: maxRetries, MaxRetryBackoff: 50 * time.Millisecond,
		PoolSize: o.PoolSize, PoolTimeout: poolTimeout,
		// Our commands are small and our one transaction too: no second pool
		// for pipelines, no large buffers.
		PipelinePoolSize: -1, ReadBufferSize: 8 << 10, WriteBufferSize: 8 << 10,
		// We use no push messages, and a Redis with narrow ACLs need not know
		// who we are.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	switch {
	case o.Addr == "" && len(o.Addrs) == 0:
		return nil, errors.New("redis: no address")
	case o.Addr == "" && o.MasterName == "":
		u.IsClusterMode = true
	case o.Addr == "":
	case len(o.Addrs) > 0:
		return nil, errors.New("redis: an address and a list of addresses")
	case o.MasterName != "":
		return nil, errors.New("redis: a master name needs a list of sentinel addresses")
	case o.Addr == Embedded && o.Cluster:
		return nil, errors.New("redis: the embedded server is no cluster")
	case o.Addr == Embedded:
		u.Addrs, u.Username, u.Password, u.DB, u.TLSConfig = []string{Embedded}, "", "", 0, nil
	default:
		return u, o.readURL(u)
	}
	if u.IsClusterMode && u.DB != 0 {
		return nil, errors.New("redis: a cluster has database 0 only")
	}
	for _, addr := range o.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("redis: address %q is not host:port", addr)
		}
	}
	return u, nil
}

// readURL fills u from o.Addr. Its errors never show the URL, which may hold a
// password.
func (o Options) readURL(u *redis.UniversalOptions) error {
	scheme, _, _ := strings.Cut(o.Addr, ":")
	if scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return errors.New("redis: the address is neither embedded nor a redis://, rediss:// or unix:// URL")
	}
	if _, err := url.Parse(o.Addr); err != nil {
		return errors.New("redis: the address is not a valid URL (special characters of a password must be percent-encoded)")
	}
	parsed, err := redis.ParseURL(o.Addr)
	if err != nil {
		return fmt.Errorf("the address: %w", err) // go-redis names what is wrong: database, path, parameter
	}
	u.Addrs = []string{parsed.Addr}
	u.Username = cmp.Or(o.Username, parsed.Username)
	u.Password = cmp.Or(o.Password, parsed.Password)
	u.DB = cmp.Or(o.DB, parsed.DB)
	u.PoolSize = cmp.Or(o.PoolSize, parsed.PoolSize)
	if u.TLSConfig = parsed.TLSConfig; o.TLS != nil {
		u.TLSConfig = o.TLS.Clone()
		if parsed.TLSConfig != nil {
			u.TLSConfig.ServerName = cmp.Or(o.TLS.ServerName, parsed.TLSConfig.ServerName)
		}
	}
	if u.IsClusterMode && u.DB != 0 {
		return errors.New("redis: a cluster has database 0 only")
	}
	return nil
}
