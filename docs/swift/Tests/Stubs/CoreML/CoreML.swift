// A stand-in for Apple's Core ML, for builds and tests on Linux. It declares what this package
// uses, with the signatures of https://developer.apple.com/documentation/coreml, and runs the
// program of Program.swift instead of a model. It is no part of any product.

import Foundation

public enum MLComputeUnits: Sendable { case all }

public final class MLModelConfiguration {
    public var computeUnits = MLComputeUnits.all
    public var functionName: String?
    public init() {}
}

// As documented, MLModel is not Sendable and MLState is.
open class MLModel {
    private let function: Program.Function
    private let program: Program

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        program = try Program(in: url)
        function = try program.function(configuration.functionName)
    }

    open class func compileModel(at url: URL) async throws -> URL {
        let compiled = FileManager.default.temporaryDirectory
            .appending(path: UUID().uuidString + ".mlmodelc")
        try FileManager.default.copyItem(at: url, to: compiled)
        return compiled
    }

    public var modelDescription: MLModelDescription {
        MLModelDescription(program: program, function: function)
    }

    public func makeState() -> MLState { MLState(context: program.context) }

    public func prediction(
        from input: any MLFeatureProvider, using state: MLState
    ) throws -> any MLFeatureProvider {
        guard let ids = input.featureValue(for: "input_ids")?.shapedArrayValue(of: Int32.self),
            let position = input.featureValue(for: "position")?.shapedArrayValue(of: Int32.self),
            ids.shape == [1, function.tokens], position.shape == [1]
        else { throw StubError("inputs of another type or shape") }
        let rows = try state.withTokens { cache in
            try program.run(
                function, ids: ids.scalars, position: Int(position.scalars[0]), cache: &cache)
        }
        let logits = MLShapedArray(
            scalars: rows.flatMap { $0 }, shape: [1, function.tokens, program.vocabulary])
        return try MLDictionaryFeatureProvider(
            dictionary: ["logits": MLFeatureValue(shapedArray: logits)])
    }
}

public final class MLModelAsset {
    private let program: Program

    public init(url: URL) throws { program = try Program(in: url) }

    public var functionNames: [String] {
        get async throws { Array(program.functions.keys) }
    }

    public func modelDescription(of functionName: String) async throws -> MLModelDescription {
        MLModelDescription(program: program, function: try program.function(functionName))
    }
}

public final class MLState: @unchecked Sendable {
    private var tokens: [Int32]

    init(context: Int) { tokens = Array(repeating: 0, count: context) }

    func withTokens<R>(_ body: (inout [Int32]) throws -> R) rethrows -> R { try body(&tokens) }
}

public final class MLModelDescription {
    public let inputDescriptionsByName: [String: MLFeatureDescription]
    public let stateDescriptionsByName: [String: MLFeatureDescription]

    init(program: Program, function: Program.Function) {
        inputDescriptionsByName = [
            "input_ids": MLFeatureDescription(input: [1, function.tokens])
        ]
        stateDescriptionsByName = [
            "keyCache": MLFeatureDescription(state: [1, 1, 1, program.context, 1])
        ]
    }
}

public final class MLFeatureDescription {
    public let multiArrayConstraint: MLMultiArrayConstraint?
    public let stateConstraint: MLStateConstraint?

    init(input: [Int]) {
        multiArrayConstraint = MLMultiArrayConstraint(shape: input)
        stateConstraint = nil
    }

    init(state: [Int]) {
        multiArrayConstraint = nil
        stateConstraint = MLStateConstraint(shape: state)
    }
}

public final class MLMultiArrayConstraint {
    public let shape: [NSNumber]

    init(shape: [Int]) { self.shape = shape.map { NSNumber(value: $0) } }
}

public final class MLStateConstraint {
    public let bufferShape: [Int]

    init(shape: [Int]) { bufferShape = shape }
}

public protocol MLFeatureProvider {
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public final class MLDictionaryFeatureProvider: MLFeatureProvider {
    private let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = try dictionary.mapValues {
            guard let value = $0 as? MLFeatureValue else { throw StubError("no feature value") }
            return value
        }
    }

    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

public final class MLFeatureValue {
    private let array: Any

    public init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {
        array = shapedArray
    }

    public func shapedArrayValue<Scalar: MLShapedArrayScalar>(
        of type: Scalar.Type
    ) -> MLShapedArray<Scalar>? {
        array as? MLShapedArray<Scalar>
    }
}

public protocol MLShapedArrayScalar {}
extension Int32: MLShapedArrayScalar {}
extension Float16: MLShapedArrayScalar {}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public var scalars: [Scalar]
    public let shape: [Int]

    public init<S: Sequence>(scalars: S, shape: [Int]) where S.Element == Scalar {
        self.scalars = Array(scalars)
        self.shape = shape
    }

    public subscript<C: Collection>(indices: C) -> MLShapedArraySlice<Scalar>
    where C.Element == Int {
        var size = shape.reduce(1, *)
        var start = 0
        for (index, length) in zip(indices, shape) {
            precondition(index < length, "an index is out of range")
            size /= length
            start += index * size
        }
        return MLShapedArraySlice(scalars: Array(scalars[start..<start + size]))
    }
}

public struct MLShapedArraySlice<Scalar: MLShapedArrayScalar> {
    public let scalars: [Scalar]
}
