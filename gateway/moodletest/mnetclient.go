package moodletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// call does what Moodle's own client does: it signs and seals, takes a new key
// of the peer from a fault 7025 at its word and then tries once more, and
// refuses answers from more than 15 seconds in the future.
func (m *mnetSite) call(ctx context.Context, p *mnetPeer, method string, params ...mnet.Value) (mnet.Value, error) {
	v, err := m.callOnce(ctx, p, method, params)
	var refused *mnet.Fault
	if errors.As(err, &refused) && refused.Code == mnet.FaultNewKey {
		c, e := gateway.ParseCertificate([]byte(refused.String))
		if e != nil {
			return nil, err
		}
		p.pin(c)
		return m.callOnce(ctx, p, method, params)
	}
	return v, err
}

const clockDrift = 15 * time.Second // Moodle's drift_threshold

func (m *mnetSite) callOnce(ctx context.Context, p *mnetPeer, method string, params []mnet.Value) (mnet.Value, error) {
	certificate, err := p.pinned(ctx, m.client)
	if err != nil {
		return nil, err
	}
	doc, err := mnet.Sign(mnet.EncodeCall(method, params...), m.keys[0], m.wwwroot, m.now())
	if err == nil {
		doc, err = mnet.Seal(doc, certificate, m.wwwroot)
	}
	if err != nil {
		return nil, err
	}
	body, err := m.post(ctx, p.Wwwroot.String()+p.Application.RPCPath(), doc)
	if err != nil {
		return nil, err
	}
	sealed, err := mnet.ParseSealed(body)
	if err != nil {
		// A peer that cannot open or does not know us answers in the clear.
		if _, e := mnet.DecodeResponse(body); e != nil {
			return nil, e
		}
		return nil, errors.New("the answer is not encrypted")
	}
	opened, err := sealed.Open(m.keys...)
	if err != nil {
		return nil, err
	}
	signed, err := mnet.ParseSigned(opened.Plaintext)
	if err != nil {
		return nil, err
	}
	if ahead := signed.Timestamp.Sub(m.now()); ahead > clockDrift {
		return nil, fmt.Errorf("the clock of %s is %s ahead", p.Wwwroot, ahead.Round(time.Second))
	}
	v, err := mnet.DecodeResponse(signed.Payload)
	var refused *mnet.Fault
	if errors.As(err, &refused) && refused.Code == mnet.FaultNewKey {
		return nil, err // stock Moodle looks at this one before the signature
	}
	if e := signed.Verify(certificate); e != nil {
		return nil, e
	}
	return v, err
}

func (m *mnetSite) post(ctx context.Context, url string, doc []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(doc))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "text/xml")
	r.Header.Set("User-Agent", "Moodle")
	answer, err := m.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, mnet.MaxBody))
}
