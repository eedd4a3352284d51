package moodletest

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// Call calls a method of a peer that the site knows, as Moodle's client does:
// its answer is the value or the first of the errors that Moodle would list. A
// fault is a *mnet.Fault. It is for sites with MNet alone.
func (st *site) Call(ctx context.Context, wwwroot, method string, params ...mnet.Value) (mnet.Value, error) {
	p := st.mnet.peerNamed(wwwroot)
	if p == nil {
		return nil, fmt.Errorf("%s is no peer of %s", wwwroot, st.wwwroot)
	}
	return st.mnet.call(ctx, p, method, params...)
}

func (m *mnetSite) call(ctx context.Context, p *mnetPeer, method string, params ...mnet.Value) (mnet.Value, error) {
	if !strings.HasPrefix(method, "system/") && !slices.ContainsFunc(p.Subscribe, func(service string) bool {
		return slices.Contains(services[service], method)
	}) {
		return nil, fmt.Errorf("7:attempted to call unauthorised method %s on host %s", method, p.Wwwroot)
	}
	return m.send(ctx, p, mnet.EncodeCall(method, params...), false)
}

const clockDrift = 15 * time.Second // Moodle's drift_threshold

// send is mnet/xmlrpc/client.php (source): it signs, seals and posts, and reads
// the answer with Moodle's parser. Of an answer it looks at the time first, and
// only for clocks that are ahead; then it takes a new key from a fault 7025,
// whoever signed that and whomever the key names, and sends once more; and only
// then it looks at the signature.
func (m *mnetSite) send(ctx context.Context, p *mnetPeer, call []byte, rekeyed bool) (mnet.Value, error) {
	certificate, err := p.pinned(ctx, m.client)
	if err != nil {
		return nil, err
	}
	doc, err := mnet.Sign(call, m.keys.current(), m.wwwroot, m.now())
	if err == nil {
		doc, err = mnet.Seal(doc, certificate, m.wwwroot)
	}
	if err != nil {
		return nil, err
	}
	sent := m.now()
	body, err := post(ctx, m.client, p.Wwwroot.String()+p.Application.RPCPath(), "Moodle", "text/xml", doc)
	if err != nil {
		return nil, err
	}
	signed, err := openAnswer([]byte(phpTrim(string(body))), m.keys.all())
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseFloat(phpTrim(signed.timestamp), 64)
	if err != nil { // a TypeError in PHP
		return nil, fmt.Errorf("timestamp %q: unsupported operand types", signed.timestamp)
	}
	took := m.now().Sub(sent)
	if ahead := time.Unix(int64(seconds), 0).Add(-took / 2).Sub(sent.Truncate(time.Second)); ahead > clockDrift {
		return nil, fmt.Errorf("6:Time gap with %s (%d seconds) is greater than the permitted maximum of 15 seconds",
			p.Label(), int(ahead.Seconds()))
	}
	payload := phpBase64(signed.object)
	v, err := mnet.DecodeResponse(payload)
	if fault, ok := errors.AsType[*mnet.Fault](err); ok && fault.Code == mnet.FaultNewKey && !rekeyed {
		return m.rekey(ctx, p, fault, call)
	}
	if err != nil {
		return nil, err
	}
	if !verifies(payload, signed.signature, certificate) {
		return nil, errors.New("invalid signature")
	}
	return v, nil
}

// openAnswer takes the envelopes off an answer.
func openAnswer(body []byte, keys []*mnet.Key) (*envelope, error) {
	sealed := parseEnvelope(body)
	switch {
	case sealed.encrypted():
	case sealed.fault != "":
		return nil, errors.New("4: remote server error: " + sealed.fault)
	case sealed.err != nil:
		return nil, fmt.Errorf("3:XML Parse error in payload: %w", sealed.err)
	default:
		return nil, errors.New("1:Payload not encrypted ")
	}
	data, key := sealed.ciphertexts()
	opened, err := mnet.OpenCiphertexts(data, key, keys...)
	if err != nil {
		return nil, errors.New("3:No key match")
	}
	plaintext := opened.Plaintext
	if at := bytes.Index(plaintext[:min(len(plaintext), 100)], []byte("<signedMessage>")); at <= 0 { // strpos, as a truth value
		return nil, fmt.Errorf("2:Payload not signed: %.200s", plaintext)
	}
	return parseEnvelope(plaintext), nil
}

// rekey stores the key from a fault 7025 and sends the call once more. A
// certificate whose PEM has another layout than OpenSSL's is stored and used,
// and makes the call fail nevertheless.
func (m *mnetSite) rekey(ctx context.Context, p *mnetPeer, fault *mnet.Fault, call []byte) (mnet.Value, error) {
	certificate, err := gateway.ParseCertificate([]byte(fault.String))
	if err != nil { // Moodle fails to store a key without a date
		return nil, fault
	}
	p.pin(certificate)
	v, err := m.send(ctx, p, call, true)
	if err == nil && cleanPEM(fault.String) != fault.String {
		return nil, fault
	}
	return v, err
}

// verifies reports whether the payload was signed with the key of c.
func verifies(payload []byte, signature string, c *gateway.Certificate) bool {
	return (&mnet.Signed{Payload: payload, Signature: phpBase64(signature)}).Verify(c) == nil
}

var pemFrame = regexp.MustCompile(`^-----BEGIN CERTIFICATE-----([\s\w/+=]+)-----END CERTIFICATE-----$`)

// cleanPEM is PARAM_PEM: a certificate in lines of 64 characters, or nothing.
func cleanPEM(s string) string {
	m := pemFrame.FindStringSubmatch(phpTrim(s))
	if m == nil {
		return ""
	}
	lines := strings.Fields(m[1])
	for i, line := range lines {
		if len(line) > 64 || len(line) < 64 && i < len(lines)-1 {
			return ""
		}
	}
	return "-----BEGIN CERTIFICATE-----\n" + strings.Join(lines, "\n") + "\n-----END CERTIFICATE-----\n"
}

// keyswap asks a site for its certificate (mnet_get_public_key). Only then does
// Moodle compare the subject with the address, and a part of that will do.
func (m *mnetSite) keyswap(ctx context.Context, wwwroot string, application gateway.Application) (*gateway.Certificate, error) {
	doc := mnet.EncodeCall("system/keyswap", m.wwwroot.String(), m.keys.current().Certificate().PEM(), string(application))
	body, err := post(ctx, m.client, wwwroot+application.RPCPath(), "Moodle", "text/xml; charset=utf-8", doc)
	if err != nil {
		return nil, err
	}
	v, err := mnet.DecodeResponse(body)
	if err != nil {
		return nil, err
	}
	certificate, err := gateway.ParseCertificate([]byte(mnet.Text(v)))
	if err != nil {
		return nil, err
	}
	commonName, altName := subject(certificate)
	if altName != "" {
		commonName = altName
	}
	if !strings.Contains(wwwroot, commonName) {
		return nil, fmt.Errorf("request for %s returned public key for different URI - %s", wwwroot, commonName)
	}
	return certificate, nil
}

// subject returns the two names in the subject of a certificate.
func subject(c *gateway.Certificate) (commonName, altName string) {
	parsed, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return "", ""
	}
	for _, name := range parsed.Subject.Names {
		if name.Type.String() == "2.5.29.17" {
			altName, _ = name.Value.(string)
		}
	}
	return parsed.Subject.CommonName, altName
}
