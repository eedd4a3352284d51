package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

const (
	// RequestLife is how long a request waits for an administrator.
	RequestLife = 30 * 24 * time.Hour
	// MaxRequests and MaxRequestsPerAddress bound the requests of a site. An
	// address that has its share gets no more; when the site has all, the
	// oldest of the address with the most makes room.
	MaxRequests           = 100
	MaxRequestsPerAddress = 5

	maxRequest = 16 << 10 // bytes of a Request as JSON
)

// Request is what a stranger's keyswap asks of the administrator: to trust a
// certificate. Nothing of it is verified.
type Request struct {
	Wwwroot     gateway.Wwwroot
	Application gateway.Application
	Certificate *gateway.Certificate
	NewKey      bool       // the site is a peer, with another certificate
	Addr        netip.Addr // who asked last
	Asked       time.Time  // when, in UTC; set by Ask
}

// requestRecord is a Request in Redis.
type requestRecord struct {
	Wwwroot     gateway.Wwwroot     `json:"wwwroot"`
	Application gateway.Application `json:"application"`
	DER         []byte              `json:"certificate"`
	NewKey      bool                `json:"new_key,omitempty"`
	Addr        netip.Addr          `json:"addr"`
	Asked       time.Time           `json:"asked"`
}

// Asked is what became of a request.
type Asked int

// What Ask answers.
const (
	AskedTooMuch Asked = iota // the address has asked for too many: not remembered
	AskedFirst                // new
	AskedAgain                // remembered before, with the same certificate
)

// Ask remembers a request for RequestLife. The same wwwroot with another
// certificate is another request, so that nobody displaces anybody's. One round
// trip.
func (s *Site) Ask(ctx context.Context, r Request) (Asked, error) {
	now := s.r.now().UTC()
	record, err := json.Marshal(requestRecord{r.Wwwroot, r.Application, r.Certificate.DER, r.NewKey, r.Addr, now})
	if err != nil {
		return AskedTooMuch, fmt.Errorf("request: %w", err)
	}
	if len(record) > maxRequest {
		return AskedTooMuch, fmt.Errorf("request is longer than %d bytes", maxRequest)
	}
	asked, err := scriptRequest.Run(ctx, s.r.client, []string{s.key(kindRequest, "")},
		micros(now), RequestLife.Milliseconds(), MaxRequests, MaxRequestsPerAddress,
		r.field(), network(r.Addr).String(), record).Int()
	if err != nil {
		return AskedTooMuch, fail("remember request", err)
	}
	return Asked(asked), nil
}

func (r *Request) field() string {
	return hash(r.Wwwroot.String() + " " + r.Certificate.Fingerprint().String())
}

// Requests returns the requests that wait, newest first. One round trip.
func (s *Site) Requests(ctx context.Context) ([]Request, error) {
	all, err := s.r.client.HGetAll(ctx, s.key(kindRequest, "")).Result()
	if err != nil {
		return nil, fail("read requests", err)
	}
	var requests []Request
	for _, value := range all {
		_, value, _ = strings.Cut(value, " ") // when it was asked
		_, value, _ = strings.Cut(value, " ") // where it counts
		var record requestRecord
		if err := json.Unmarshal([]byte(value), &record); err != nil {
			return nil, fmt.Errorf("read requests: record: %w", err)
		}
		cert, err := gateway.ParseCertificateDER(record.DER)
		if err != nil {
			return nil, fmt.Errorf("read requests: record: %w", err)
		}
		if s.r.now().Before(record.Asked.Add(RequestLife)) {
			requests = append(requests, Request{record.Wwwroot, record.Application, cert, record.NewKey, record.Addr, record.Asked})
		}
	}
	slices.SortFunc(requests, func(a, b Request) int {
		return cmp.Or(b.Asked.Compare(a.Asked), strings.Compare(a.field(), b.field()))
	})
	return requests, nil
}

// Answer forgets all requests of a wwwroot. Two round trips, or one if there
// is none.
func (s *Site) Answer(ctx context.Context, w gateway.Wwwroot) error {
	requests, err := s.Requests(ctx)
	if err != nil {
		return err
	}
	var fields []string
	for i := range requests {
		if requests[i].Wwwroot == w {
			fields = append(fields, requests[i].field())
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return fail("forget requests", s.r.client.HDel(ctx, s.key(kindRequest, ""), fields...).Err())
}
