// A stand-in for Apple's Core AI, for builds and tests on Linux. It declares what this package
// uses, with the signatures of https://developer.apple.com/documentation/coreai, and runs a
// program of arithmetic instead of a model. It is no part of any product.

import Foundation

public struct ComputeUnitKind: Hashable, Sendable {
    public static let gpu = ComputeUnitKind()
}

public struct SpecializationOptions: Hashable, Sendable {
    public static let `default` = SpecializationOptions(preferredComputeUnitKind: .gpu)
    public var expectFrequentReshapes = false
    public init(preferredComputeUnitKind: ComputeUnitKind) {}
}

public struct AIModel: Sendable {
    private let program: Program

    public init(
        contentsOf modelURL: URL, options: SpecializationOptions = .default
    ) async throws {
        let file = modelURL.appending(path: "stub.json")
        program = try JSONDecoder().decode(Program.self, from: Data(contentsOf: file))
    }

    public var functionNames: [String] { Array(program.shifts.keys) }

    public func loadFunction(named functionName: String) throws -> InferenceFunction? {
        program.shifts[functionName].map {
            InferenceFunction(name: functionName, shift: $0, vocabulary: program.vocabulary)
        }
    }
}

/// A program in place of a model, read from stub.json of an `.aimodel`: the one of the stand-in
/// for Core ML, with a shift for each function.
public struct Program: Codable, Sendable {
    public let shifts: [String: Int]
    public let vocabulary: Int

    public init(shifts: [String: Int], vocabulary: Int) {
        self.shifts = shifts
        self.vocabulary = vocabulary
    }
}

public struct InferenceFunctionDescriptor: Sendable {
    public let name: String

    public func stateDescriptor(of stateName: String) -> InferenceValue.Descriptor? {
        ["keyCache", "valueCache"].contains(stateName)
            ? .ndArray(NDArrayDescriptor(shape: [1, 1, 1, -1, 1], scalarType: .float16)) : nil
    }
}

public struct InferenceFunction: Sendable {
    public let descriptor: InferenceFunctionDescriptor
    private let shift: Int
    private let vocabulary: Int

    init(name: String, shift: Int, vocabulary: Int) {
        descriptor = InferenceFunctionDescriptor(name: name)
        self.shift = shift
        self.vocabulary = vocabulary
    }

    public func run(
        inputs: [String: NDArray], states: consuming MutableViews = MutableViews(),
        outputViews: consuming MutableViews = MutableViews()
    ) async throws -> Outputs {
        guard let ids = inputs["input_ids"]?.scalars(as: Int32.self),
            let positions = inputs["position_ids"]?.scalars(as: Int32.self),
            positions == Array(0..<Int32(positions.count)), ids.count <= positions.count,
            let cache = states.arrays["keyCache"], states.arrays["valueCache"] != nil
        else { throw StubError() }
        let start = positions.count - ids.count
        guard positions.count <= cache.count else { throw StubError() }

        let keys = cache.base.assumingMemoryBound(to: Float16.self)
        var logits = Array(repeating: Float16(0), count: ids.count * vocabulary)
        for (row, id) in ids.enumerated() {
            keys[start + row] = Float16(id)
            var sum = shift
            for j in 0...start + row { sum += (j + 1) * (Int(keys[j]) + 1) }
            logits[row * vocabulary + sum % vocabulary] = 1
        }
        return Outputs(
            values: ["logits": NDArray(scalars: logits, shape: [1, ids.count, vocabulary])])
    }

    public struct Outputs: ~Copyable {
        var values: [String: NDArray]

        public mutating func remove(_ outputName: String) -> InferenceValue? {
            values.removeValue(forKey: outputName).map { InferenceValue(array: $0) }
        }
    }

    public struct MutableViews: ~Copyable, ~Escapable {
        var arrays: [String: (base: UnsafeMutableRawPointer, count: Int)] = [:]

        @_lifetime(immortal)
        public init() {}

        @_lifetime(self: &value)
        public mutating func insert(
            _ value: inout some InferenceValue.MutableViewRepresentable & ~Copyable,
            for name: String
        ) {
            let view = value.mutableView()
            arrays[name] = (view.base, view.count)
        }
    }
}

public struct InferenceValue: ~Copyable {
    let array: NDArray

    // Apple's consumes the value.
    public var ndArray: NDArray? { array }

    public enum Descriptor: Sendable { case ndArray(NDArrayDescriptor) }

    public protocol MutableViewRepresentable: ~Copyable {
        @_lifetime(&self)
        mutating func mutableView() -> MutableView
    }

    public struct MutableView: ~Copyable, ~Escapable {
        let base: UnsafeMutableRawPointer
        let count: Int

        @_lifetime(immortal)
        init(base: UnsafeMutableRawPointer, count: Int) {
            self.base = base
            self.count = count
        }
    }
}

struct StubError: Error {}
